-- Have a task's events pushed to one more web process. ARGV: its channel. Returns the state; '' where there is no task.
local r = redis.call('HMGET', record, 'state', 'channels')
if r[1] and not is_terminal(r[1]) and not string.find(r[2] or '', ARGV[1], 1, true) then
  redis.call('HSET', record, 'channels', (r[2] or '') .. ' ' .. ARGV[1])
end
return r[1] or ''
