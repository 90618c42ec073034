#!lua flags=allow-oom
-- Put the staged keys of a restore in place of all that graycat has, at once. ARGV: what staged names begin with, the key
-- that says which backup was restored, the mark of this restore, the prefix of graycat's keys, the prefix of keys that are
-- moved aside, how many patterns of names follow, these patterns (all keys of graycat's and Celery's), then kept queues.
-- Returns how many keys there are now; -1 if the restore with this mark is not staged.
local staging, restored, mark, prefix, aside = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local note = redis.call('GET', staging .. 'mark')
if not note or string.sub(note, 1, #mark) ~= mark then
  -- It was put in place already, and only the reply was lost.
  if string.sub(redis.call('GET', restored) or '', 1, #mark) == mark then return 0 end
  return -1
end
for i = 6, #ARGV do
  for _, name in ipairs(redis.call('KEYS', ARGV[i])) do
    if string.sub(name, 1, #staging) ~= staging and string.sub(name, 1, #aside) ~= aside then
      redis.call('UNLINK', name)
    end
  end
end
local count = 0
for _, staged in ipairs(redis.call('KEYS', staging .. 'key:*')) do
  local name = string.sub(staged, #staging + 5)
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
redis.call('RENAME', staging .. 'mark', restored)
return count
