-- Append events of a running attempt. ARGV: attempt, id of its `started` event, the first event's number behind it,
-- then kind, data, ...
-- Returns 'ok', 'cancel' (written, but somebody asked to stop) or 'stale' (another attempt owns the task).
local r = redis.call('HMGET', record, 'state', 'attempt', 'cancel', 'channels')
if r[1] ~= 'running' or r[2] ~= ARGV[1] then return 'stale' end
local at, place = string.match(ARGV[2], '(%d+)-(%d+)')
local number = place + ARGV[3]
for i = 4, #ARGV, 2 do
  -- What is there already was sent again because its reply was lost.
  emit(r[4], ARGV[i], ARGV[i + 1], at .. '-' .. string.format('%d', number))
  number = number + 1
end
if ARGV[3] == '1' then redis.call('HSETNX', record, 'first_event_ms', now_ms()) end
return r[3] or 'ok'
