-- requires: broker/types
-- flags: allow-oom
-- Move an item of a batch from one state to another. KEYS: the batch's record (hash).
-- ARGV: item number, states that it may be in (separated by blanks), the number of tries that its record must have,
--       the new state, the new record.
-- Returns 1, or 0 if another process has moved the item.
local parts = KEYS[1] .. ':'
local from
for state in string.gmatch(ARGV[2], '%S+') do
  if redis.call('ZSCORE', parts .. state, ARGV[1]) then from = state end
end
if not from then return 0 end
local record = redis.call('HGET', parts .. 'items', ARGV[1])
if (record and cjson.decode(record).tries or 0) ~= tonumber(ARGV[3]) then return 0 end
check_type('zset', parts .. ARGV[4])
redis.call('ZREM', parts .. from, ARGV[1])
redis.call('ZADD', parts .. ARGV[4], ARGV[1], ARGV[1])
redis.call('HSET', parts .. 'items', ARGV[1], ARGV[5])
return 1
