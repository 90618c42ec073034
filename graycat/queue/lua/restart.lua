-- requires: broker/prelude queue/task
-- flags: allow-oom
-- Begin the answer of a running attempt anew: remove what earlier attempts have published of it, and tell who reads along.
-- ARGV: attempt, the id of its `started` event. Returns the id of the `restarted` event, which chunks are to be counted
-- from; '' if another attempt owns the task.
local r = redis.call('HMGET', record, 'state', 'attempt', 'followed', 'channels')
if r[1] ~= 'running' or r[2] ~= ARGV[1] then return '' end
-- One command: users of boxes may use XADD, and not XTRIM.
local id = redis.call('XADD', stream, 'MINID', '=', ARGV[2], '*', 'kind', 'restarted', 'data', ARGV[1])
if r[3] and #(r[4] or '') <= MAX_CHANNELS_BYTES then
  for channel in string.gmatch(r[4] or '', 'graycat:web:%S+') do
    redis.call('PUBLISH', channel, task_id .. ' ' .. id .. ' restarted ' .. ARGV[1])
  end
end
redis.call('HDEL', record, 'first_event_ms')
return id
