#!lua flags=allow-oom
-- Put the staged keys of a restore in place of all that graycat has, at once. ARGV: the key that says whose restore is under
-- way, who this is, what the names of all staged keys begin with, the key that says what was restored last, what it says
-- then, the prefix of graycat's keys, that of keys which were moved aside, then patterns of all names of graycat and Celery.
-- Returns how many keys there are now; 0 if this was done already; -1 if this restore is not the one under way.
local mark, me, all_staged, restored, note, prefix, aside = unpack(ARGV, 1, 7)
if redis.call('GET', mark) ~= me then
  -- Only the reply to the first time was lost.
  if redis.call('GET', restored) == me .. ' ' .. note then return 0 end
  return -1
end
local staging = all_staged .. me .. ':'
for i = 8, #ARGV do
  for _, name in ipairs(redis.call('KEYS', ARGV[i])) do
    if string.sub(name, 1, #all_staged) ~= all_staged and string.sub(name, 1, #aside) ~= aside then
      redis.call('UNLINK', name)
    end
  end
end
local count = 0
for _, staged in ipairs(redis.call('KEYS', staging .. '*')) do
  local name = string.sub(staged, #staging + 1)
  redis.call('RENAME', staged, name)
  count = count + 1
  -- An attempt that ran when the backup was made did not die by the task's own fault: claim.lua will charge it one.
  if string.sub(name, 1, #prefix + 5) == prefix .. 'task:' then
    if redis.call('TYPE', name).ok == 'hash' and redis.call('HGET', name, 'state') == 'running' then
      local charged = tonumber(redis.call('HGET', name, 'charged') or '0') or 0
      redis.call('HSET', name, 'charged', charged - 1)
    end
  end
end
redis.call('SET', restored, me .. ' ' .. note)
redis.call('DEL', mark)
return count
