-- requires: broker/prelude broker/types queue/stored
-- flags: allow-oom
-- Take back the charges of what holds nothing any more. ARGV: how many charges to look at. Returns how many are left.
check_type('hash', accounts)
check_type('zset', charges)
settle(tonumber(ARGV[1]), now_ms())
return redis.call('ZCARD', charges)
