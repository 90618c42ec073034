-- requires: broker/prelude broker/deliveries
-- Let go of a batch that is over: off the list of live ones, its keys end, its webhook is told.
-- KEYS: the record (hash), the live batches (sorted set), its other keys.
-- ARGV: id, how long what is known of it is kept (ms), event, then field, value, ... of the delivery.
-- Returns 1, or 0 where it has been revived meanwhile.
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= ARGV[3] then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
for place = 1, #KEYS do
  if place ~= 2 then redis.call('PEXPIRE', KEYS[place], ARGV[2]) end
end
local webhook = redis.call('HGET', KEYS[1], 'webhook')
if wants(webhook, ARGV[3]) then enqueue_delivery(ARGV[1], ARGV[3], webhook, {unpack(ARGV, 4)}) end
return 1
