-- requires: broker/prelude broker/types queue/task queue/queue_names queue/turns queue/usage queue/conclude
-- flags: allow-oom
-- Ask a task to stop. ARGV: 'cancel', or 'interrupt' to let it end with the part of its answer that exists.
-- A queued task ends here unless it is interrupted; a running one is marked, and ends when its engine is free.
-- Returns {state, worker}; the state is '' if there is no such task.
local r = redis.call('HMGET', record, 'state', 'worker', 'cancel')
if not r[1] then return {'', ''} end
if r[1] == 'queued' and ARGV[1] == 'cancel' then
  conclude('cancelled', 499, 'cancelled', '', true)
  return {'cancelled', ''}
end
-- The first request counts.
if r[1] == 'running' and not r[3] then redis.call('HSET', record, 'cancel', ARGV[1]) end
return {r[1], r[2] or ''}
