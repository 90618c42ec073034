-- requires: broker/prelude queue/task
-- Count a task that is about to be created, or return the limit that it would exceed.
-- KEYS[4..]: for each API token to which it is charged, its own first: the tasks submitted in the last minute; then for each
-- family, the task's own first, the unfinished ones, and those of its players (sorted sets, by when they were submitted).
-- ARGV: three for each of these tokens: tasks per minute, unfinished at once, queued at once; 0 for no such limit.
-- Returns {'rate' | 'concurrency' | 'queued', number of the token (1: its own), the limit, ms until there is room or 0 if
-- that is unknown}, or {'', the limit of tasks per minute that is nearest to its end (0: none), what is left, ms until one
-- more}.
local WINDOW_MS, CREATE_MS = 60000, 5000
local stride = (#KEYS - 3) / (#ARGV / 3)
if #ARGV > 6 or stride > 20 or stride % 2 ~= 1 then return redis.error_reply('ERR wrong number of keys') end
-- The same task again, under an id that the caller has chosen, does not count.
if redis.call('EXISTS', record) == 1 then return {'', 0, 0, 0} end
local now = now_ms()
local records = string.sub(record, 1, -#task_id - 1)

-- Count the queued tasks; remove those from the set that were never created, or whose records have expired.
local function count_queued(key)
  local count = 0
  local entries = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #entries, 2 do
    local state = redis.call('HGET', records .. entries[i], 'state')
    if state == 'queued' or (not state and now - entries[i + 1] < CREATE_MS) then
      count = count + 1
    elseif not state or is_terminal(state) then
      redis.call('ZREM', key, entries[i])
    end
  end
  return count
end

local function add_up(first, count)
  local sum = 0
  for key = first + 1, first + stride - 1 do sum = sum + count(KEYS[key]) end
  return sum
end
local function count_unfinished(first)
  return add_up(first, function(key) return redis.call('ZCARD', key) end)
end

local best = {'', 0, 0, 0}
for first = 4, #KEYS, stride do
  local holder = (first - 4) / stride + 1
  local rate, concurrency, queued = unpack(ARGV, 3 * holder - 2, 3 * holder)
  rate, concurrency, queued = tonumber(rate), tonumber(concurrency), tonumber(queued)
  -- If it was counted before, but the reply was lost, it must not count twice.
  for key = first, first + stride - 1 do redis.call('ZREM', KEYS[key], task_id) end
  if rate > 0 then
    redis.call('ZREMRANGEBYSCORE', KEYS[first], '-inf', now - WINDOW_MS)
    local left = rate - redis.call('ZCARD', KEYS[first])
    local oldest = redis.call('ZRANGE', KEYS[first], 0, 0, 'WITHSCORES')[2] or now
    local wait = oldest + WINDOW_MS - now
    if left <= 0 then return {'rate', holder, rate, wait} end
    if best[2] == 0 or left - 1 < best[3] then best = {'', rate, left - 1, wait} end
  end
  local largest = math.min(concurrency > 0 and concurrency or math.huge, queued > 0 and queued or math.huge)
  if count_unfinished(first) >= largest then
    local count = add_up(first, count_queued)
    if queued > 0 and count >= queued then return {'queued', holder, queued, 0} end
    if concurrency > 0 and count_unfinished(first) >= concurrency then return {'concurrency', holder, concurrency, 0} end
  end
end

-- No limit is exceeded. It counts from now on, so that of two simultaneous requests only one gets the last place.
for first = 4, #KEYS, stride do
  if tonumber(ARGV[3 * (first - 4) / stride + 1]) > 0 then
    redis.call('ZADD', KEYS[first], now, task_id)
    redis.call('PEXPIRE', KEYS[first], WINDOW_MS)
  end
  redis.call('ZADD', first == 4 and KEYS[5] or KEYS[first + 2], now, task_id)
end
return best
