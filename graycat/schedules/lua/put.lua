-- Keep a schedule. A change of its times makes it begin anew: what has not been fired by then is not.
-- KEYS: the schedule (hash), all schedules (set), its waiting times (sorted set).
-- ARGV: id, definition, times (cron and zone), source, 1 where another definition is replaced, most of one owner,
--       the owner's prefix of ids.
-- Returns what became of it: new, same, changed; or why nothing did: taken, file, many.
local was = redis.call('HMGET', KEYS[1], 'definition', 'times', 'source')
local now = redis.call('TIME')[1]
if not was[1] then
  local owned = 0
  for _, id in ipairs(redis.call('SMEMBERS', KEYS[2])) do
    if string.sub(id, 1, #ARGV[7]) == ARGV[7] then owned = owned + 1 end
  end
  if owned >= tonumber(ARGV[6]) then return 'many' end
  redis.call('HSET', KEYS[1], 'definition', ARGV[2], 'times', ARGV[3], 'source', ARGV[4], 'mark', now, 'added', now)
  redis.call('SADD', KEYS[2], ARGV[1])
  return 'new'
end
if was[3] ~= ARGV[4] then return was[3] == 'file' and 'file' or 'taken' end
if was[1] == ARGV[2] then return 'same' end
if ARGV[5] ~= '1' then return 'taken' end
redis.call('HSET', KEYS[1], 'definition', ARGV[2], 'times', ARGV[3])
if was[2] ~= ARGV[3] then
  redis.call('HSET', KEYS[1], 'mark', now)
  redis.call('DEL', KEYS[3])
end
return 'changed'
