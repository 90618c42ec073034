-- flags: allow-oom
-- Append chunks of a running attempt, and push them to the web processes that wait for the task. Every token passes
-- here, so this script does not use the shared libraries. KEYS: the record (hash), its events (stream).
-- ARGV: attempt, task id, the prefix of the ids of its chunks ("milliseconds-"), the number of the first one after that
-- prefix, 1 if these are the attempt's first chunks, 2 if those before them were written (their replies were read), else
-- 0, then the chunks.
-- Returns 'ok', 'cancel' or 'interrupt' (written, but the task was asked to stop) or 'stale' (another attempt owns it).
local call, events = redis.call, KEYS[2]
local r = call('HMGET', KEYS[1], 'state', 'attempt', 'cancel', 'channels')
if r[1] ~= 'running' or r[2] ~= ARGV[1] or #r[4] > 8192 then return 'stale' end
local head, prefix, first = ARGV[2] .. ' ', ARGV[3], ARGV[4] - 6
-- Chunks are sent before the replies to those before them are read. If those were refused (the script was missing for a
-- moment), these must be refused as well: a chunk cannot be put in between later. What was written and is gone was lost by
-- the broker (a crash, a replica that lagged): readers have it, nobody sends it again, and the stream goes on behind it.
local last = ARGV[5] ~= '2' and call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
if last and string.sub(last[1], 1, #prefix) == prefix and tonumber(string.sub(last[1], #prefix + 1)) < ARGV[4] - 1 then
  return redis.error_reply('GAP chunks before these are missing')
end
for i = 6, #ARGV do
  local id = prefix .. string.format('%d', first + i)
  local done = redis.pcall('XADD', events, 'MAXLEN', '~', 20000, id, 'kind', 'chunk', 'data', ARGV[i])
  if type(done) ~= 'table' then
    for channel in string.gmatch(r[4], 'graycat:web:%S+') do
      call('PUBLISH', channel, head .. id .. ' chunk ' .. ARGV[i])
    end
  -- A chunk that exists already was sent again because the reply was lost. Any other error ends the script: a chunk must
  -- not be lost silently.
  elseif not string.find(done.err, 'equal or smaller', 1, true) then
    error(done)
  end
end
if ARGV[5] == '1' then
  local t = call('TIME')
  call('HSETNX', KEYS[1], 'first_event_ms', t[1] * 1000 + math.floor(t[2] / 1000))
end
return r[3] or 'ok'
