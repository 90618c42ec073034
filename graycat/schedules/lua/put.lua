-- requires: broker/prelude broker/deadline
-- Store a schedule. If its times change, it begins anew: times that still wait are dropped.
-- KEYS: the schedule (hash), all schedules (set), its waiting times (sorted set).
-- ARGV: id, definition, times (cron and time zone), source, 1 to replace another definition, how many schedules an
--       owner may have, the prefix of the owner's ids.
-- Returns new, same or changed; or, if nothing was stored, the reason: taken, file, many.
local old = redis.call('HMGET', KEYS[1], 'definition', 'times', 'source')
local now = redis.call('TIME')[1]
if not old[1] then
  local owned = 0
  for _, id in ipairs(redis.call('SMEMBERS', KEYS[2])) do
    if string.sub(id, 1, #ARGV[7]) == ARGV[7] then owned = owned + 1 end
  end
  if owned >= tonumber(ARGV[6]) then return 'many' end
  redis.call('HSET', KEYS[1], 'definition', ARGV[2], 'times', ARGV[3], 'source', ARGV[4], 'mark', now, 'added', now)
  redis.call('SADD', KEYS[2], ARGV[1])
  return 'new'
end
if old[3] ~= ARGV[4] then return old[3] == 'file' and 'file' or 'taken' end
if old[1] == ARGV[2] then return 'same' end
if ARGV[5] ~= '1' then return 'taken' end
redis.call('HSET', KEYS[1], 'definition', ARGV[2], 'times', ARGV[3])
if old[2] ~= ARGV[3] then
  redis.call('HSET', KEYS[1], 'mark', now)
  redis.call('DEL', KEYS[3])
end
return 'changed'
