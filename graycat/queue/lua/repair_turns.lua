-- requires: broker/prelude queue/task queue/queue_names queue/turns
-- Give each turn on whose task is gone. ARGV: the queues to look at, those of their models with them.
-- Returns how many tasks entered a queue.
local ours = {}
for _, name in ipairs(ARGV) do ours[name] = true end
local given = 0
for _, queue in ipairs(redis.call('SMEMBERS', turns_key)) do
  local owners = ours[base_queue(queue)] and redis.call('ZRANGE', owners_key(queue), 0, -1) or {}
  for _, owner in ipairs(owners) do
    if not is_queued(redis.call('GET', turn_key(queue, owner))) then
      next_turn(queue, owner)
      given = given + redis.call('EXISTS', turn_key(queue, owner))
    end
  end
end
return given
