-- requires: broker/prelude queue/task
-- Hand a running attempt back to the queue. ARGV: attempt. Returns 1, or 0 where it is not ours any more.
local r = redis.call('HMGET', record, 'state', 'attempt')
if r[1] ~= 'running' or r[2] ~= ARGV[1] then return 0 end
redis.call('HSET', record, 'state', 'queued', 'enqueued_ms', now_ms())
redis.call('HDEL', record, 'lease_ms')
return 1
