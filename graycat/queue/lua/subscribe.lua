-- requires: broker/prelude queue/task
-- flags: allow-oom
-- Push all events of a task to one more web process. ARGV: its channel. Returns the state; '' if there is no such task.
local r = redis.call('HMGET', record, 'state', 'channels')
if r[1] and not is_terminal(r[1]) then
  local channels = r[2] or ''
  if not string.find(channels, ARGV[1], 1, true) then channels = channels .. ' ' .. ARGV[1] end
  redis.call('HSET', record, 'followed', 1, 'channels', channels)
end
return r[1] or ''
