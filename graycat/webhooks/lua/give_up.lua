-- requires: broker/types
-- flags: allow-oom
-- End a pending delivery without another attempt. KEYS: the due deliveries, the delivery, then the slots that an attempt
-- takes. ARGV: member, state now, how it ended, as the JSON of an attempt.
-- Returns 1, or 0 if the delivery is over.
if redis.call('HGET', KEYS[2], 'state') ~= 'pending' then return 0 end
check_types('zset', {KEYS[1], unpack(KEYS, 3)})
for i = 3, #KEYS do redis.call('ZREM', KEYS[i], ARGV[1]) end
-- With a number of its own, so that an attempt which is under way cannot settle the delivery any more.
local number = redis.call('HINCRBY', KEYS[2], 'attempts', 1)
redis.call('HSET', KEYS[2], 'state', ARGV[2], 'next_ms', '', 'try:' .. number, ARGV[3])
redis.call('HDEL', KEYS[2], 'held_ms', 'webhook')
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
