-- Give the turn on where a task waits aside and the one before it is gone. Returns 1 where it was given on.
local r = redis.call('HMGET', record, 'state', 'queue', 'owner', 'message')
if r[1] ~= 'queued' or not r[4] then return 0 end
if is_queued(redis.call('GET', turn_key(r[2], r[3] or ''))) then return 0 end
next_turn(r[2], r[3] or '')
return 1
