-- End a running attempt. ARGV: attempt, state, HTTP status, event kind, event data.
-- Returns 1, or 0 where another attempt owns the task or it has ended.
local r = redis.call('HMGET', record, 'state', 'attempt')
if r[1] ~= 'running' or r[2] ~= ARGV[1] then return 0 end
conclude(ARGV[2], ARGV[3], ARGV[4], ARGV[5])
return 1
