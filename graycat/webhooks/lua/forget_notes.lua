-- requires: broker/types
-- flags: allow-oom
-- Forget the notes that home has looked at. KEYS: the notes of a family (sorted set, by when they were written). ARGV: id,
-- time, ... One that was written again meanwhile has another time, and stays.
local notes = KEYS[1]
check_type('zset', notes)
for i = 1, #ARGV, 2 do
  local written = redis.call('ZSCORE', notes, ARGV[i])
  if written and (written == ARGV[i + 1] or tonumber(written) == tonumber(ARGV[i + 1])) then
    redis.call('ZREM', notes, ARGV[i])
  end
end
return 1
