-- requires: broker/prelude broker/types queue/task queue/queue_names queue/turns queue/usage queue/conclude
-- flags: allow-oom
-- End a task that did not start in time. ARGV: event data. Returns 1, or 0 if it has started or is not due.
local r = redis.call('HMGET', record, 'state', 'attempt', 'queue_deadline_ms')
if r[1] ~= 'queued' or r[2] ~= '0' or now_ms() < (tonumber(r[3]) or math.huge) then return 0 end
conclude('expired', 503, 'error', ARGV[1], true)
return 1
