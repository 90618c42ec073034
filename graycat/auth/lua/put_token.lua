-- requires: broker/prelude broker/deadline broker/types
-- Write the record of a minted API token, unless another was written or removed since its caller looked at them.
-- KEYS: the tokens (hash), when the tasks of tokens are ended (sorted set).
-- ARGV: SHA-1 of what the caller has read (each field and value, with a zero byte after it), the token's prefix, its
-- record, its name, when it expires (seconds; '' for never).
-- Returns 1, or 0 if the tokens have changed.
check_type('hash', KEYS[1])
check_type('zset', KEYS[2])
local parts = {}
for number, text in ipairs(redis.call('HGETALL', KEYS[1])) do parts[number] = text .. '\0' end
if redis.sha1hex(table.concat(parts)) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
-- The tasks of a token of the same name that was revoked are the new one's.
if ARGV[5] == '' then
  redis.call('ZREM', KEYS[2], ARGV[4])
else
  redis.call('ZADD', KEYS[2], ARGV[5], ARGV[4])
end
return 1
