-- Ask a task to stop. A queued one ends here; a running one is marked, and ends when its engine is free.
-- Returns {state, worker}; the state is '' where there is no such task.
local r = redis.call('HMGET', record, 'state', 'worker')
if not r[1] then return {'', ''} end
if r[1] == 'queued' then
  conclude('cancelled', 499, 'cancelled', '')
  return {'cancelled', ''}
end
if r[1] == 'running' then redis.call('HSET', record, 'cancel', 1) end
return {r[1], r[2] or ''}
