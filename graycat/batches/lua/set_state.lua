-- requires: broker/prelude
-- Change a batch's state. KEYS: the record (hash), the live batches (sorted set), its other keys.
-- ARGV: id, states from which it may (parted by blanks), the new one, then field, value, ... ('' deletes the field).
-- Returns the state it was in ('' where there is no batch); where that is not among those, nothing has changed.
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return '' end
if not string.find(' ' .. ARGV[2] .. ' ', ' ' .. state .. ' ', 1, true) then return state end
local now = now_ms()
redis.call('HSET', KEYS[1], 'state', ARGV[3])
for place = 4, #ARGV, 2 do
  local value = ARGV[place + 1] == 'NOW' and now or ARGV[place + 1]
  if value == '' then redis.call('HDEL', KEYS[1], ARGV[place]) else redis.call('HSET', KEYS[1], ARGV[place], value) end
end
-- Whatever has changed, the feeder is to look at it.
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then redis.call('ZADD', KEYS[2], 0, ARGV[1]) end
for _, key in ipairs(KEYS) do if key ~= KEYS[2] then redis.call('PERSIST', key) end end
return state
