-- requires: broker/prelude broker/types queue/task queue/queue_names queue/turns
-- flags: allow-oom
-- Pass on each turn whose task is no longer queued, and count the parked tasks anew. ARGV: the shared queues to look at,
-- with those of their models and workers.
-- Returns how many tasks entered a queue, and how many turns or queues could not be used: a key has another type.
local wanted, names = {}, {unpack(ARGV)}
for _, name in ipairs(ARGV) do wanted[name] = true end
check_type('set', turns_key)
for _, name in ipairs(redis.call('SMEMBERS', turns_key)) do
  if not wanted[name] and wanted[base_queue(name)] then names[#names + 1] = name end
end
local entered, unusable = 0, 0

local function repair(queue, owner)
  check_turns(queue, owner)
  if is_queued(redis.call('GET', turn_key(queue, owner))) then return end
  next_turn(queue, owner)
  entered = entered + redis.call('EXISTS', turn_key(queue, owner))
end

local function repair_queue(queue)
  if not is_fair(queue) then return end
  for _, owner in ipairs(list_owners(queue)) do
    if not try(function() repair(queue, owner) end) then unusable = unusable + 1 end
  end
  recount_parked(queue)
end

for _, queue in ipairs(names) do
  if not try(function() repair_queue(queue) end) then unusable = unusable + 1 end
end
return {entered, unusable}
