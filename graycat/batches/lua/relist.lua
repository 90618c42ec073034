-- requires: broker/types
-- flags: allow-oom
-- Put batches back among the live ones that are not there and whose life has not ended: another program has deleted the
-- set, or written over it. What has ended expires (end.lua).
-- KEYS: the live batches, all batches (sorted sets). ARGV: what comes before an id in the key of its record, the first
-- of all batches to look at, and how many. Returns how many it has looked at, then the ids that it has put back.
check_types('zset', KEYS)
local last = ARGV[2] + ARGV[3] - 1
local ids = redis.call('ZRANGE', KEYS[2], ARGV[2], last)
local put_back = {#ids}
for _, id in ipairs(ids) do
  if not redis.call('ZSCORE', KEYS[1], id) and redis.call('PTTL', ARGV[1] .. id) == -1 then
    redis.call('ZADD', KEYS[1], 0, id)
    put_back[#put_back + 1] = id
  end
end
return put_back
