-- Append events of a running attempt. ARGV: attempt, batch number, then kind, data, ...
-- Returns 'ok', 'cancel' (written, but somebody asked to stop) or 'stale' (another attempt owns the task).
local r = redis.call('HMGET', record, 'state', 'attempt', 'seq', 'cancel', 'channels')
if r[1] ~= 'running' or r[2] ~= ARGV[1] then return 'stale' end
-- A batch whose reply was lost is sent again: the number keeps it from being written twice.
if tonumber(ARGV[2]) > tonumber(r[3]) then
  for i = 3, #ARGV, 2 do emit(r[5], ARGV[i], ARGV[i + 1]) end
  redis.call('HSET', record, 'seq', ARGV[2])
  if ARGV[2] == '1' then redis.call('HSETNX', record, 'first_event_ms', now_ms()) end
end
return r[4] and 'cancel' or 'ok'
