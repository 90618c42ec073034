-- Move an item of a batch from one state to another. KEYS: the batch's record (hash).
-- ARGV: number, states from which it may (parted by blanks), try that it must be at, the new state, what is kept of it.
-- Returns 1, or 0 where another has moved it.
local parts = KEYS[1] .. ':'
local from
for state in string.gmatch(ARGV[2], '%S+') do
  if redis.call('ZSCORE', parts .. state, ARGV[1]) then from = state end
end
if not from then return 0 end
local known = redis.call('HGET', parts .. 'items', ARGV[1])
if (known and cjson.decode(known).tries or 0) ~= tonumber(ARGV[3]) then return 0 end
redis.call('ZREM', parts .. from, ARGV[1])
redis.call('ZADD', parts .. ARGV[4], ARGV[1], ARGV[1])
redis.call('HSET', parts .. 'items', ARGV[1], ARGV[5])
return 1
