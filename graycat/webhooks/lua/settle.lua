-- requires: broker/types
-- flags: allow-oom
-- Write how an attempt ended. KEYS: the due deliveries, the delivery, then the slots that it took.
-- ARGV: member, attempt, state now, when it is due again (ms; '' for never), the attempt as JSON.
-- Returns 1, or 0 if another attempt has taken over.
local r = redis.call('HMGET', KEYS[2], 'state', 'attempts')
if r[1] ~= 'pending' or r[2] ~= ARGV[2] then return 0 end
check_types('zset', {KEYS[1], unpack(KEYS, 3)})
for i = 3, #KEYS do redis.call('ZREM', KEYS[i], ARGV[1]) end
redis.call('HSET', KEYS[2], 'state', ARGV[3], 'next_ms', ARGV[4], 'try:' .. ARGV[2], ARGV[5])
redis.call('HDEL', KEYS[2], 'held_ms')
if ARGV[4] ~= '' then
  redis.call('ZADD', KEYS[1], ARGV[4], ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
  -- The address and the secret are not needed any more.
  redis.call('HDEL', KEYS[2], 'webhook')
end
return 1
