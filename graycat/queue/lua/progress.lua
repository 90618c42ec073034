-- requires: queue/task
-- flags: allow-oom
-- Write how far a running attempt is. ARGV: attempt, event data. Returns the same as publish.
local r = redis.call('HMGET', record, 'state', 'attempt', 'cancel', 'channels')
if r[1] ~= 'running' or r[2] ~= ARGV[1] then return 'stale' end
redis.call('HSET', record, 'progress', ARGV[2])
emit(r[4], 'progress', ARGV[2])
return r[3] or 'ok'
