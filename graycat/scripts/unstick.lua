-- Give each turn on whose task is gone. Returns how many tasks entered a queue.
local given = 0
for _, queue in ipairs(redis.call('SMEMBERS', turns_key)) do
  for _, owner in ipairs(redis.call('ZRANGE', owners_key(queue), 0, -1)) do
    if not is_queued(redis.call('GET', turn_key(queue, owner))) then
      next_turn(queue, owner)
      given = given + redis.call('EXISTS', turn_key(queue, owner))
    end
  end
end
return given
