-- Let go of a batch that is over: off the list of live ones, its keys end, its webhook is told.
-- KEYS: the record (hash), the live batches (sorted set), deliveries (sorted set), the delivery, its other keys.
-- ARGV: id, how long what is known of it is kept (ms), event, delivery lifetime (s), then field, value, ... of the delivery.
-- Returns 1, or 0 where it has been revived meanwhile.
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= ARGV[3] then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
for place = 1, #KEYS do
  if place == 1 or place > 4 then redis.call('PEXPIRE', KEYS[place], ARGV[2]) end
end
local webhook = redis.call('HGET', KEYS[1], 'webhook')
if not webhook or redis.call('EXISTS', KEYS[4]) == 1 then return 1 end
local wanted = false
for _, name in ipairs(cjson.decode(webhook).events) do wanted = wanted or name == ARGV[3] end
if not wanted then return 1 end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HSET', KEYS[4], 'state', 'pending', 'attempts', 0, 'event_ms', now, 'next_ms', now, 'webhook', webhook,
  unpack(ARGV, 5))
redis.call('EXPIRE', KEYS[4], ARGV[4])
redis.call('ZADD', KEYS[3], now, ARGV[1] .. ' ' .. ARGV[3])
return 1
