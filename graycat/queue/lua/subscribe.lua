-- requires: broker/prelude queue/task
-- Have all of a task's events pushed to one more web process. ARGV: its channel. Returns the state; '' where there is no task.
local r = redis.call('HMGET', record, 'state', 'channels')
if r[1] and not is_terminal(r[1]) then
  local there = string.find(r[2] or '', ARGV[1], 1, true)
  redis.call('HSET', record, 'followed', 1, 'channels', there and r[2] or (r[2] or '') .. ' ' .. ARGV[1])
end
return r[1] or ''
