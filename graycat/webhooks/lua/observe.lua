-- requires: broker/prelude broker/types broker/deliveries
-- Look at a task with a webhook, and enqueue the deliveries of what has happened to it: each once, however often this runs.
-- Its worker writes the record, and may be anybody's: of it only the state, the status and two times are told. All else is
-- what home has kept in the hook when the task was created.
-- KEYS: the hook (hash), the record (hash), the hooks (sorted set, by when to look again), the due deliveries.
-- ARGV: the task's id, when to look again if it has not ended (ms).
-- Returns 'waits', 'ended', 'gone' (no such hook, or its record is lost), or 'forged' (the record is another owner's).
local id, hook, record = ARGV[1], KEYS[1], KEYS[2]
check_types('zset', {KEYS[3], KEYS[4]})
local function forget(verdict)
  redis.call('ZREM', KEYS[3], id)
  return verdict
end

local h = redis.call('HMGET', hook, 'webhook', 'owner', 'kind', 'metadata', 'submitted_ms', 'keep_ms', 'lifetime_ms', 'ended')
local webhook = h[1]
if not webhook then return forget('gone') end
if not h[7] or h[8] then return forget('ended') end
local r = redis.pcall('HMGET', record, 'state', 'owner', 'status', 'started_ms', 'finished_ms')
if r.err or not r[1] then return forget('gone') end
if r[2] ~= h[2] then return forget('forged') end

-- A number of at most ``digits`` digits, as text; '' for anything else.
local function number(text, digits)
  return text and #text <= digits and string.match(text, '^%d+$') or ''
end

local function tell(event, state, status, finished_ms)
  if not wants(webhook, event) or redis.call('HSETNX', hook, 'told:' .. event, 1) == 0 then return end
  enqueue_delivery(id, event, webhook, {'task_state', state, 'owner', h[2], 'kind', h[3], 'metadata', h[4],
    'submitted_ms', h[5], 'started_ms', number(r[4], 15), 'status', status, 'finished_ms', finished_ms})
end

local state = r[1]
if number(r[4], 15) ~= '' then tell('started', 'running', '', '') end
if not is_terminal(state) then
  redis.call('ZADD', KEYS[3], ARGV[2], id)
  redis.call('PEXPIRE', hook, h[7] + 24 * 3600 * 1000)
  return 'waits'
end
tell(state, state, number(r[3], 3), number(r[5], 15))
redis.call('HSET', hook, 'ended', 1)
-- Its owner may look at it, and try it again, for as long as at the record.
redis.call('PEXPIRE', hook, h[6])
redis.call('PEXPIRE', record, h[6])
return forget('ended')
