-- Shared by every script of a task. KEYS: the record (hash), its events (stream), the live tasks (sorted set).
-- Time is the broker's own clock, so that machines with wrong clocks agree.
local record, stream, live = KEYS[1], KEYS[2], KEYS[3]
local task_id = string.match(record, '[^:]+$')

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

-- Write the terminal state, once: callers have checked that there is none yet.
local function conclude(state, status, kind, data)
  local keep = redis.call('HMGET', record, 'keep_record_ms', 'keep_events_ms', 'channels')
  redis.call('HSET', record, 'state', state, 'status', status, 'finished_ms', now_ms(), 'size', #data)
  -- The body may be megabytes, and nobody reads it again.
  redis.call('HDEL', record, 'lease_ms', 'body')
  emit(keep[3], kind, data)
  redis.call('ZREM', live, task_id)
  redis.call('PEXPIRE', record, keep[1])
  redis.call('PEXPIRE', stream, keep[2])
end
