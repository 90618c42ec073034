-- Shared by the scripts of a task. KEYS: the record (hash), its events (stream), the live tasks of its family (sorted set).
local record, stream, live = KEYS[1], KEYS[2], KEYS[3]
-- A user of a box may call any script with any arguments: the first pattern takes the square of its text's length.
if #record > 256 or #live > 256 then return redis.error_reply('ERR a name is too long') end
local task_id = string.match(record, '[^:]*$')
-- The prefix of all keys, and the family of engines.
local prefix, family = string.match(live, '^(.*:)live%.(.*)$')
-- As long may be what the record says of channels: a loop over more would hold up the broker.
local MAX_CHANNELS_BYTES = 8192

-- Append one event, and push it to the web processes that wait for this task. Returns its id; nil if an event with the
-- wanted id (the default is the next by the clock) exists already. Any other error ends the script: an event must
-- not be lost silently.
local function emit(channels, kind, data, wanted)
  local id = redis.pcall('XADD', stream, 'MAXLEN', '~', 20000, wanted or '*', 'kind', kind, 'data', data)
  if type(id) == 'table' then
    if wanted and string.find(id.err, 'equal or smaller', 1, true) then return nil end
    error(id)
  end
  -- A worker may have written anything there; nothing is ever pushed to channels of others, such as remote control.
  if #(channels or '') > MAX_CHANNELS_BYTES then channels = nil end
  for channel in string.gmatch(channels or '', 'graycat:web:%S+') do
    redis.call('PUBLISH', channel, task_id .. ' ' .. id .. ' ' .. kind .. ' ' .. data)
  end
  return id
end

-- The sets of live tasks that a task of an owner is in: that of the owner, and for a player ("token/player") that of all
-- players of the API token.
local function owned_by(owner)
  local parent = string.match(owner or '', '^([^/]+)/')
  return {live .. ':' .. (owner or ''), parent and prefix .. 'players.' .. family .. ':' .. parent}
end
