-- requires: broker/types
-- Store the outcome of a waiting time, once.
-- KEYS: the schedule (hash), its waiting times (sorted set), its last outcomes (list).
-- ARGV: the time, the id of its batch or '', the outcome, how many outcomes are stored.
-- Returns 1, or 0 if another process has done so, or there is no such schedule.
check_type('hash', KEYS[1])
check_type('list', KEYS[3])
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then return 0 end
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'batch', ARGV[2], 'fired', ARGV[1]) end
redis.call('LPUSH', KEYS[3], ARGV[3])
redis.call('LTRIM', KEYS[3], 0, ARGV[4] - 1)
return 1
