-- requires: broker/prelude broker/deadline broker/types queue/stored
-- Create a batch: its record and its entries in the sets, together or not at all.
-- KEYS: the record (hash), the live batches (by turn), all batches and the owner's (sorted sets by submit time).
-- ARGV: id, how many live batches the owner may have, the owner, the bytes that it is charged with, the most bytes of a
-- player, of an API token and of all, then field, value, ... of the record.
-- Returns 1, 0 if there is a batch with the id already, -1 if the owner has too many live batches; or why there is no room
-- for it: 'player', 'token', 'all' (stored.lua) or 'broker'.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
check_types('zset', {KEYS[2], KEYS[3], KEYS[4]})
local now = now_ms()
local records = string.sub(KEYS[1], 1, -#ARGV[1] - 1)
local live = 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  if redis.call('ZSCORE', KEYS[4], id) then live = live + 1 end
end
if live >= tonumber(ARGV[2]) then return -1 end
local limits = {player = tonumber(ARGV[5]), token = tonumber(ARGV[6]), all = tonumber(ARGV[7])}
local no_room = charge('batch:' .. ARGV[1], ARGV[3], tonumber(ARGV[4]), limits, now)
if no_room then return no_room end
-- Records expire by themselves. Their ids are removed from the sets here, a few at each submit.
for _, set in ipairs({KEYS[3], KEYS[4]}) do
  for _, id in ipairs(redis.call('ZRANGE', set, 0, 9)) do
    if redis.call('EXISTS', records .. id) == 0 then redis.call('ZREM', set, id) end
  end
end
redis.call('HSET', KEYS[1], 'state', 'queued', 'submitted_ms', now, 'started_from_ms', now, unpack(ARGV, 8))
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('ZADD', KEYS[4], now, ARGV[1])
-- Before all batches that have had their turn.
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return 1
