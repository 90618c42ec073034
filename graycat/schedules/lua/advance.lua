-- Note what a look at a schedule found: times to fire wait from now on, and the next look begins behind them.
-- KEYS: the schedule (hash), its waiting times (sorted set), its last fires (list).
-- ARGV: the mark that the look began at, the mark of the next, what to tell of missed times or '', fires kept, times.
-- Returns 1, or 0 where another look was first, or the schedule has gone or changed.
if redis.call('HGET', KEYS[1], 'mark') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'mark', ARGV[2])
for place = 5, #ARGV do redis.call('ZADD', KEYS[2], ARGV[place], ARGV[place]) end
if ARGV[3] ~= '' then
  redis.call('LPUSH', KEYS[3], ARGV[3])
  redis.call('LTRIM', KEYS[3], 0, ARGV[4] - 1)
end
return 1
