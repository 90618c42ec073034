-- requires: broker/types
-- Put a due delivery on the control queue and take its slots. KEYS: the due deliveries, the delivery, the queue, then the
-- slots (sorted sets, by when each is free again): its receiver's, its owner's.
-- ARGV: member, now (ms), lease (ms), how long it waits if no slot is free (ms), Celery message, then the number of slots
-- in each set.
-- Returns 1; 0 if another dispatcher was faster or the delivery is over; -1 if no slot is free.
local due, delivery, queue = KEYS[1], KEYS[2], KEYS[3]
local member, now, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local score = redis.call('ZSCORE', due, member)
if not score or tonumber(score) > now then return 0 end
if redis.call('HGET', delivery, 'state') ~= 'pending' then
  redis.call('ZREM', due, member)
  return 0
end
check_type('list', queue)
check_types('zset', {unpack(KEYS, 4)})
for i = 4, #KEYS do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
  -- Its own slot, if an attempt died and left it taken.
  redis.call('ZREM', KEYS[i], member)
  if redis.call('ZCARD', KEYS[i]) >= tonumber(ARGV[i + 2]) then
    redis.call('ZADD', due, now + ARGV[4], member)
    return -1
  end
end
for i = 4, #KEYS do
  redis.call('ZADD', KEYS[i], now + lease, member)
  redis.call('PEXPIRE', KEYS[i], lease)
end
redis.call('ZADD', due, now + lease, member)
redis.call('LPUSH', queue, ARGV[5])
return 1
