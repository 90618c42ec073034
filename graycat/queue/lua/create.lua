-- requires: broker/prelude broker/deadline broker/types queue/task queue/queue_names queue/turns queue/stored
-- Accept a task: its record and its message, together or not at all. KEYS[4]: the queue; KEYS[5], ...: the records that
-- tasks of other families have under the same name of the caller's.
-- ARGV: lifetime while unfinished (ms), queue_ttl (ms), Celery message, queue cap, owner, how long it stays on the
-- owner's list (ms; 0: it is not on the list; -1: it is also not among the owner's unfinished tasks), the bytes that it is
-- charged with, the most bytes of a player, of an API token and of all, its webhook (JSON; '' for none), then field, value, ...
-- Returns 1, 0 if the id is taken, -1 if the queue is full, -2 if a task of another family has the name; or why there is no
-- room for it: 'player', 'token', 'all' (stored.lua) or 'broker'.
if redis.call('EXISTS', record) == 1 then return 0 end
for number = 5, #KEYS do
  if redis.call('EXISTS', KEYS[number]) == 1 then return -2 end
end
local MAX_UNCOUNTED, UNCOUNTED_MS = 100000, 7 * 24 * 3600 * 1000
local queue, owner = KEYS[4], ARGV[5]
local listed = prefix .. 'listed:' .. owner
local length = check_type('list', queue)
check_type('stream', stream)
check_types('zset', {live, unpack(owned_by(owner))})
-- A user of a box may use no such list.
if tonumber(ARGV[6]) > 0 then check_type('zset', listed) end
if ARGV[11] ~= '' then check_type('zset', prefix .. 'hooks') end
check_turns(queue, owner)
local dead = parse_count(redis.call('GET', dead_key(queue))) or 0
if dead > length then
  redis.call('SET', dead_key(queue), length)
  dead = length
end
local cap = tonumber(ARGV[4])
if length - dead + count_parked(queue) >= cap then
  -- Nobody is refused for a counter alone: another program may have written over it.
  recount_parked(queue)
  if length - dead + count_parked(queue) >= cap then return -1 end
end
local now = now_ms()
local limits = {player = tonumber(ARGV[8]), token = tonumber(ARGV[9]), all = tonumber(ARGV[10])}
local no_room = charge('task:' .. task_id, owner, tonumber(ARGV[7]), limits, now)
if no_room then return no_room end
redis.call('HSET', record, 'state', 'queued', 'attempt', 0, 'submitted_ms', now, 'enqueued_ms', now,
  'queue_deadline_ms', now + ARGV[2], 'owner', owner, unpack(ARGV, 12))
redis.call('PEXPIRE', record, ARGV[1])
redis.call('ZADD', live, now, task_id)
-- What the task uses is counted for this owner when it has ended (graycat/usage). Users of boxes cannot write this list, so
-- whatever they write into a record, it is no other owner's.
local uncounted = prefix .. 'usage:uncounted'
try(function()
  if check_type('zset', uncounted) >= MAX_UNCOUNTED then return end
  redis.call('ZADD', uncounted, now, task_id .. ' ' .. owner)
  redis.call('PEXPIRE', uncounted, UNCOUNTED_MS)
end)
if ARGV[6] ~= '-1' then
  for _, key in ipairs(owned_by(owner)) do redis.call('ZADD', key, now, task_id) end
end
if tonumber(ARGV[6]) > 0 then
  redis.call('ZADD', listed, now, task_id)
  redis.call('ZREMRANGEBYSCORE', listed, '-inf', now - ARGV[6])
  redis.call('PEXPIRE', listed, ARGV[6])
end
if ARGV[11] ~= '' then
  -- What home tells of the task is made from this, which no worker may touch, not from the record.
  local hook, r = prefix .. 'hook:' .. task_id, redis.call('HMGET', record, 'kind', 'metadata', 'keep_record_ms')
  redis.call('DEL', hook)
  redis.call('HSET', hook, 'webhook', ARGV[11], 'owner', owner, 'kind', r[1], 'metadata', r[2] or '', 'submitted_ms', now,
    'keep_ms', r[3], 'lifetime_ms', ARGV[1])
  redis.call('PEXPIRE', hook, ARGV[1] + 24 * 3600 * 1000)
  redis.call('ZADD', prefix .. 'hooks', now + 30000, task_id)
end
if is_fair(queue) then
  if is_queued(redis.call('GET', turn_key(queue, owner))) then
    redis.call('HSET', record, 'message', ARGV[3])
    redis.call('RPUSH', parked_key(queue, owner), task_id)
    redis.call('INCR', parked_count_key(queue))
    return 1
  end
  redis.call('SADD', turns_key, queue)
  take_turn(queue, owner, task_id, ARGV[3])
  return 1
end
redis.call('LPUSH', queue, ARGV[3])
return 1
