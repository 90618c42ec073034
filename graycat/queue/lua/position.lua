-- requires: broker/prelude queue/task queue/queue_names queue/turns
-- Return a waiting task's place in its queue, from 1, as the turns will have it; 0 where it does not wait.
local r = redis.call('HMGET', record, 'state', 'queue', 'owner')
if r[1] ~= 'queued' then return 0 end
local queue, owner = r[2], r[3] or ''
local aside = redis.call('LPOS', parked_key(queue, owner), task_id)
-- As many of its owner's tasks go before it, and of each other owner's as many, and one more of those whose turn is next.
local before = aside and aside + 1 or 0
local place, ours = before + 1, tonumber(redis.call('ZSCORE', owners_key(queue), owner) or 0)
local owners = redis.call('ZRANGE', owners_key(queue), 0, 199, 'WITHSCORES')
for i = 1, #owners, 2 do
  if owners[i] ~= owner then
    local first = tonumber(owners[i + 1]) < ours and 1 or 0
    place = place + math.min(redis.call('LLEN', parked_key(queue, owners[i])) + 1, before + first)
  end
end
return place
