-- requires: broker/prelude broker/types queue/task queue/queue_names queue/turns queue/usage queue/conclude
-- flags: allow-oom
-- Cancel a queued task; a running one goes on. Returns 1, or 0 if it is not queued.
local r = redis.call('HMGET', record, 'state')
if r[1] ~= 'queued' then return 0 end
conclude('cancelled', 499, 'cancelled', '', true)
return 1
