-- Note what became of a waiting time, once.
-- KEYS: the schedule (hash), its waiting times (sorted set), its last fires (list).
-- ARGV: the time, the id of its batch or '', what to tell of it, fires kept.
-- Returns 1, or 0 where another has done so, or the schedule has gone.
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then return 0 end
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'batch', ARGV[2], 'fired', ARGV[1]) end
redis.call('LPUSH', KEYS[3], ARGV[3])
redis.call('LTRIM', KEYS[3], 0, ARGV[4] - 1)
return 1
