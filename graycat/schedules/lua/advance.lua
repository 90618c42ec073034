-- requires: broker/types
-- Store what is due of a schedule: times to fire wait from now on, and the next step begins after them.
-- KEYS: the schedule (hash), its waiting times (sorted set), its last outcomes (list).
-- ARGV: the mark that this step began at, the mark of the next step, the outcome of missed times or '', how many
--       outcomes are stored, the times to fire.
-- Returns 1, or 0 if another process was first, or the schedule was changed or deleted.
if redis.call('HGET', KEYS[1], 'mark') ~= ARGV[1] then return 0 end
check_type('zset', KEYS[2])
check_type('list', KEYS[3])
redis.call('HSET', KEYS[1], 'mark', ARGV[2])
for index = 5, #ARGV do redis.call('ZADD', KEYS[2], ARGV[index], ARGV[index]) end
if ARGV[3] ~= '' then
  redis.call('LPUSH', KEYS[3], ARGV[3])
  redis.call('LTRIM', KEYS[3], 0, ARGV[4] - 1)
end
return 1
