-- requires: broker/prelude broker/types queue/task queue/queue_names queue/turns
-- Return a queued task's 1-based position in its queue under round-robin, 0 if it is not queued. ARGV: further queues;
-- behind the position is how many tasks wait for each.
local MAX_QUEUES = 64
local r = redis.call('HMGET', record, 'state', 'queue', 'owner')
if r[1] ~= 'queued' then return {0} end
local queue, owner = r[2], r[3] or ''
local reply = {1}
for index = 1, math.min(#ARGV, MAX_QUEUES) do reply[index + 1] = count_waiting(ARGV[index]) end
if not is_fair(queue) then
  -- First come, first served: behind those whose messages came before.
  local messages = redis.call('LRANGE', queue, -200, -1)
  for index = #messages, 1, -1 do
    if string.find(messages[index], task_id, 1, true) then break end
    reply[1] = reply[1] + 1
  end
  return reply
end
local parked = redis.call('LPOS', parked_key(queue, owner), task_id)
-- The tasks of its own owner that go before it. Of each other owner as many go before it, and one more if that owner's
-- turn comes first.
local own_before = parked and parked + 1 or 0
local position = own_before + 1
local own_turn = tonumber(redis.call('ZSCORE', owners_key(queue), owner) or 0)
local owners = redis.call('ZRANGE', owners_key(queue), 0, 199, 'WITHSCORES')
for i = 1, #owners, 2 do
  if owners[i] ~= owner then
    local comes_first = tonumber(owners[i + 1]) < own_turn and 1 or 0
    local waiting = redis.call('LLEN', parked_key(queue, owners[i])) + 1
    position = position + math.min(waiting, own_before + comes_first)
  end
end
reply[1] = position
return reply
