-- requires: broker/prelude broker/deliveries queue/task queue/queue_names queue/turns queue/conclude
-- Cancel a queued task; a running one goes on. Returns 1, or 0 if it is not queued.
local r = redis.call('HMGET', record, 'state', 'queue')
if r[1] ~= 'queued' then return 0 end
leave_message(r[2])
conclude('cancelled', 499, 'cancelled', '')
return 1
