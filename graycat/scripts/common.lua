-- Shared by every script of a task. KEYS: the record (hash), its events (stream), the live tasks (sorted set).
-- Time is the broker's own clock, so that machines with wrong clocks agree.
local record, stream, live = KEYS[1], KEYS[2], KEYS[3]
local task_id = string.match(record, '[^:]*$')

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function is_terminal(state)
  return state == 'succeeded' or state == 'failed' or state == 'cancelled' or state == 'expired'
end

-- Append one event, and push it to the web processes that wait for this task. Returns its id; nil where an event
-- with the wanted id (the default is the next by the clock) is there already. Any other error, as of a full memory,
-- ends the script: an event must not be lost without a word.
local function emit(channels, kind, data, wanted)
  local id = redis.pcall('XADD', stream, 'MAXLEN', '~', 20000, wanted or '*', 'kind', kind, 'data', data)
  if type(id) == 'table' then
    if wanted and string.find(id.err, 'equal or smaller', 1, true) then return nil end
    error(id)
  end
  for channel in string.gmatch(channels or '', '%S+') do
    redis.call('PUBLISH', channel, task_id .. ' ' .. id .. ' ' .. kind .. ' ' .. data)
  end
  return id
end

-- Have a webhook told of an event where it wants that: once, so not of a second start. The record may be gone when the
-- last try is made, so the delivery keeps what is to be told for a day and an hour. Names are those in store.py.
local function tell(webhook, event)
  if not webhook then return end
  local wanted = false
  for _, name in ipairs(cjson.decode(webhook).events) do wanted = wanted or name == event end
  local delivery = 'graycat:delivery:' .. task_id .. ':' .. event
  if not wanted or redis.call('EXISTS', delivery) == 1 then return end
  local now = now_ms()
  redis.call('HSET', delivery, 'state', 'pending', 'attempts', 0, 'event_ms', now, 'next_ms', now, 'webhook', webhook)
  for _, field in ipairs({'owner', 'kind', 'status', 'submitted_ms', 'started_ms', 'finished_ms', 'metadata'}) do
    local value = redis.call('HGET', record, field)
    if value then redis.call('HSET', delivery, field, value) end
  end
  redis.call('HSET', delivery, 'task_state', redis.call('HGET', record, 'state'))
  redis.call('EXPIRE', delivery, 25 * 3600)
  redis.call('ZADD', 'graycat:deliveries', now, task_id .. ' ' .. event)
end

-- The sets that a live task is in by its owner: that of its API token, and for a player's ("token/player") that of all
-- players of the token.
local function owned_by(owner)
  local parent = string.match(owner or '', '^([^/]+)/')
  return {live .. ':' .. (owner or ''), parent and live .. '-players:' .. parent}
end

-- Turns. In a queue that is shared, API tokens take turns: of each only one waiting task has its message in the queue,
-- the others wait aside and follow one by one as it is claimed. So a token with 500 tasks delays another's by one.
-- What is asked often and at once answered (`.quick`) goes without.
local prefix = string.match(live, '^(.*:)live$')
local function is_fair(queue)
  -- Behind the colon is a model's name or a worker's, which may be anything.
  return not string.find(queue, '^[^:]*%.quick')
end
-- Owners and queues may have colons in their names, so that two of each could meet in one key.
local function turn_key(queue, owner) return prefix .. 'turn:' .. owner .. '\0' .. queue end
local function aside_key(queue, owner) return prefix .. 'aside:' .. owner .. '\0' .. queue end
local function owners_key(queue) return prefix .. 'owners:' .. queue end
-- The queues in which owners wait, for the sweeper.
local turns_key = prefix .. 'turns'
local function aside_count(queue) return prefix .. 'asides:' .. queue end
-- How many messages lie in a queue whose tasks have ended: they take nobody's place.
local function dead_key(queue) return prefix .. 'dead:' .. queue end
local function leave_message(queue)
  if queue and not redis.call('HGET', record, 'message') then redis.call('INCR', dead_key(queue)) end
end
local function is_queued(id)
  return id and redis.call('HGET', prefix .. 'task:' .. id, 'state') == 'queued'
end

-- Give a task its owner's turn: its message enters the queue. The owners are in the order of their messages.
local function take_turn(queue, owner, id, message)
  local t = redis.call('TIME')
  redis.call('SET', turn_key(queue, owner), id)
  redis.call('ZADD', owners_key(queue), t[1] * 1000000 + t[2], owner)
  redis.call('SADD', turns_key, queue)
  redis.call('LPUSH', queue, message)
end

-- Give the turn to the owner's next task that still waits; take the owner off the list where there is none.
local function next_turn(queue, owner)
  while true do
    local id = redis.call('LPOP', aside_key(queue, owner))
    if not id then
      redis.call('DEL', turn_key(queue, owner))
      redis.call('ZREM', owners_key(queue), owner)
      if redis.call('EXISTS', owners_key(queue)) == 0 then redis.call('SREM', turns_key, queue) end
      return
    end
    redis.call('DECR', aside_count(queue))
    local key = prefix .. 'task:' .. id
    local r = redis.call('HMGET', key, 'state', 'message')
    if r[1] == 'queued' and r[2] then
      redis.call('HDEL', key, 'message')
      redis.call('HSET', key, 'enqueued_ms', now_ms())
      take_turn(queue, owner, id, r[2])
      return
    end
  end
end

-- This task waits no longer: its owner's next one takes the turn.
local function pass_turn(queue, owner)
  if queue and is_fair(queue) and redis.call('GET', turn_key(queue, owner or '')) == task_id then
    next_turn(queue, owner or '')
  end
end

-- For operators: the newest failures, without a word of what was asked and answered.
local function note_failure(state, status, data)
  local failures = prefix .. 'failures'
  local r = redis.call('HMGET', record, 'kind', 'worker')
  -- Inside of a text the quotes would be escaped.
  local kind_of_error = string.match(data, '"type"%s*:%s*"([%w_]+)"') or ''
  redis.call('XADD', failures, 'MAXLEN', '~', 100, '*', 'task', task_id, 'kind', r[1] or '', 'worker', r[2] or '',
    'state', state, 'status', status, 'type', string.sub(kind_of_error, 1, 64))
  redis.call('PEXPIRE', failures, 7 * 24 * 3600 * 1000)
end

-- Write the terminal state, once: callers have checked that there is none yet.
local function conclude(state, status, kind, data)
  local keep = redis.call('HMGET', record, 'keep_record_ms', 'keep_events_ms', 'channels', 'owner', 'queue', 'keep_body',
    'webhook')
  redis.call('HSET', record, 'state', state, 'status', status, 'finished_ms', now_ms(), 'size', #data)
  redis.call('HDEL', record, 'lease_ms')
  -- One that waits aside makes room at once.
  if redis.call('HDEL', record, 'message') == 1 and redis.call('LREM', aside_key(keep[5], keep[4]), 1, task_id) == 1 then
    redis.call('DECR', aside_count(keep[5]))
  end
  -- The body may be megabytes; where nobody may try the task again, nobody reads it.
  if not keep[6] then redis.call('HDEL', record, 'body') end
  emit(keep[3], kind, data)
  if state == 'failed' or state == 'expired' then note_failure(state, status, data) end
  tell(keep[7], state)
  redis.call('ZREM', live, task_id)
  for _, key in ipairs(owned_by(keep[4])) do redis.call('ZREM', key, task_id) end
  redis.call('PEXPIRE', record, keep[1])
  redis.call('PEXPIRE', stream, keep[2])
  pass_turn(keep[5], keep[4])
end
