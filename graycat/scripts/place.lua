-- Return a waiting task's place in its queue, from 1, as the turns will have it; 0 where it does not wait.
local r = redis.call('HMGET', record, 'state', 'queue', 'owner')
if r[1] ~= 'queued' then return 0 end
local queue, owner = r[2], r[3] or ''
local ahead = redis.call('LPOS', aside_key(queue, owner), task_id)
local rank = ahead and ahead + 1 or 0
local place = rank + 1
for _, other in ipairs(redis.call('SRANDMEMBER', owners_key(queue), 200)) do
  if other ~= owner then
    place = place + math.min(redis.call('LLEN', aside_key(queue, other)) + 1, rank + 1)
  end
end
return place
