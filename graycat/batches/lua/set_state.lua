-- requires: broker/prelude broker/types
-- Change a batch's state. KEYS: the record (hash), the live batches (sorted set), the batch's other keys.
-- ARGV: id, states that it may be in (separated by blanks), the new state, then field, value, ... of the record.
--       The value '' deletes a field; NOW stands for the broker's time (ms).
-- Returns the state that it was in; '' if there is no batch. Nothing changes unless that state is among those allowed.
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return '' end
if not string.find(' ' .. ARGV[2] .. ' ', ' ' .. state .. ' ', 1, true) then return state end
check_type('zset', KEYS[2])
local now = now_ms()
redis.call('HSET', KEYS[1], 'state', ARGV[3])
for index = 4, #ARGV, 2 do
  local value = ARGV[index + 1] == 'NOW' and now or ARGV[index + 1]
  if value == '' then redis.call('HDEL', KEYS[1], ARGV[index]) else redis.call('HSET', KEYS[1], ARGV[index], value) end
end
-- After any change, the runner must look at the batch, so the batch is live and its keys do not expire.
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then redis.call('ZADD', KEYS[2], 0, ARGV[1]) end
for _, key in ipairs(KEYS) do if key ~= KEYS[2] then redis.call('PERSIST', key) end end
return state
