-- requires: broker/types
-- Begin an attempt at a delivery. KEYS: the due deliveries, the delivery. ARGV: member, now (ms), how long the attempt
-- holds the delivery (ms).
-- Returns the delivery's fields; nil if it is over, not due, or held by another attempt.
local r = redis.call('HMGET', KEYS[2], 'state', 'next_ms', 'held_ms')
local now, held = tonumber(ARGV[2]), ARGV[2] + ARGV[3]
if r[1] ~= 'pending' or tonumber(r[2]) > now or tonumber(r[3] or 0) > now then return nil end
check_type('zset', KEYS[1])
redis.call('HSET', KEYS[2], 'held_ms', held)
redis.call('HINCRBY', KEYS[2], 'attempts', 1)
redis.call('ZADD', KEYS[1], held, ARGV[1])
return redis.call('HGETALL', KEYS[2])
