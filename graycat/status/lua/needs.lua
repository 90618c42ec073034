-- flags: allow-oom
-- Note how many workers a family needs now, and return the most that it has needed lately, and before.
-- KEYS: its needs (a hash: the most in each step by the second when that began). ARGV: the need, the second when this
-- step began, the second before which needs are forgotten, and that from which on is lately.
local key = KEYS[1]
local need, step, forget, lately = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local most_lately, most = need, need
local entries = redis.call('HGETALL', key)
for index = 1, #entries, 2 do
  local at, value = tonumber(entries[index]), tonumber(entries[index + 1])
  -- A clock that was set back leaves entries of the future: they are forgotten, too.
  if not at or not value or at < forget or at > tonumber(step) then
    redis.call('HDEL', key, entries[index])
  else
    most = math.max(most, value)
    if at >= lately then most_lately = math.max(most_lately, value) end
  end
end
local noted = tonumber(redis.call('HGET', key, step) or '')
if not noted or need > noted then redis.call('HSET', key, step, need) end
redis.call('EXPIRE', key, math.max(60, 2 * (tonumber(step) - forget)))
return {most_lately, most}
