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
-- with the wanted id (the default is the next by the clock) is there already.
local function emit(channels, kind, data, wanted)
  local id = redis.pcall('XADD', stream, 'MAXLEN', '~', 20000, wanted or '*', 'kind', kind, 'data', data)
  if type(id) == 'table' then
    if wanted then return nil end
    error(id.err)
  end
  for channel in string.gmatch(channels or '', '%S+') do
    redis.call('PUBLISH', channel, task_id .. ' ' .. id .. ' ' .. kind .. ' ' .. data)
  end
  return id
end

-- The sets that a live task is in by its owner: that of its API token, and for a player's ("token/player") that of all
-- players of the token.
local function owned_by(owner)
  local parent = string.match(owner or '', '^([^/]+)/')
  return {live .. ':' .. (owner or ''), parent and live .. '-players:' .. parent}
end

-- Write the terminal state, once: callers have checked that there is none yet.
local function conclude(state, status, kind, data)
  local keep = redis.call('HMGET', record, 'keep_record_ms', 'keep_events_ms', 'channels', 'owner')
  redis.call('HSET', record, 'state', state, 'status', status, 'finished_ms', now_ms(), 'size', #data)
  -- The body may be megabytes, and nobody reads it again.
  redis.call('HDEL', record, 'lease_ms', 'body')
  emit(keep[3], kind, data)
  redis.call('ZREM', live, task_id)
  for _, key in ipairs(owned_by(keep[4])) do redis.call('ZREM', key, task_id) end
  redis.call('PEXPIRE', record, keep[1])
  redis.call('PEXPIRE', stream, keep[2])
end
