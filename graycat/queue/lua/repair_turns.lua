-- requires: broker/prelude queue/task queue/queue_names queue/turns
-- Pass on each turn whose task is no longer queued. ARGV: the shared queues to look at, with those of their models and
-- workers. Returns how many tasks entered a queue.
local wanted = {}
for _, name in ipairs(ARGV) do wanted[name] = true end
local entered = 0
for _, queue in ipairs(redis.call('SMEMBERS', turns_key)) do
  local owners = wanted[base_queue(queue)] and redis.call('ZRANGE', owners_key(queue), 0, -1) or {}
  for _, owner in ipairs(owners) do
    if not is_queued(redis.call('GET', turn_key(queue, owner))) then
      next_turn(queue, owner)
      entered = entered + redis.call('EXISTS', turn_key(queue, owner))
    end
  end
end
return entered
