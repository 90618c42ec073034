-- requires: broker/prelude broker/types broker/deliveries
-- flags: allow-oom
-- End a batch's life: remove it from the live batches, let its keys expire, and enqueue its webhook's delivery.
-- KEYS: the record (hash), the live batches (sorted set), the batch's other keys.
-- ARGV: id, time to live of the keys (ms), state in which it has ended, then field, value, ... of the delivery.
-- Returns 1, or 0 if the batch has been resumed meanwhile.
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= ARGV[3] then return 0 end
check_types('zset', {KEYS[2], 'graycat:deliveries'})
redis.call('ZREM', KEYS[2], ARGV[1])
for index = 1, #KEYS do
  if index ~= 2 then redis.call('PEXPIRE', KEYS[index], ARGV[2]) end
end
local webhook = redis.call('HGET', KEYS[1], 'webhook')
if wants(webhook, ARGV[3]) then enqueue_delivery(ARGV[1], ARGV[3], webhook, {unpack(ARGV, 4)}) end
return 1
