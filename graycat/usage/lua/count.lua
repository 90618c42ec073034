-- requires: broker/types
-- flags: allow-oom
-- Count an ended task, once. KEYS: the tasks that are not counted yet (sorted set), the day (hash). ARGV: member, how long
-- the day is kept (ms), then field, amount, ...
-- Returns 1, or 0 if it has been counted.
local uncounted, day = KEYS[1], KEYS[2]
check_type('zset', uncounted)
check_type('hash', day)
if redis.call('ZREM', uncounted, ARGV[1]) == 0 then return 0 end
for i = 3, #ARGV, 2 do
  -- Another program may have written what is no number.
  local before = tonumber(redis.call('HGET', day, ARGV[i]) or '') or 0
  redis.call('HSET', day, ARGV[i], string.format('%.0f', before + ARGV[i + 1]))
end
redis.call('PEXPIRE', day, ARGV[2])
return 1
