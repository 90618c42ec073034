-- What a task has used so far. graycat/usage counts it for the task's owner when the task has ended.

-- Add the time for which a running attempt has had its engine: until now, or, if its worker has vanished, until its lease
-- ended. Called once an attempt: when it ends, is handed back, or is replaced.
local function add_engine_time()
  local r = redis.call('HMGET', record, 'claimed_ms', 'lease_ms', 'engine_ms')
  local claimed, lease = tonumber(r[1] or ''), tonumber(r[2] or '')
  if not (claimed and lease) then return end
  local took = math.max(math.min(now_ms(), lease) - claimed, 0)
  redis.call('HSET', record, 'engine_ms', string.format('%.0f', (tonumber(r[3] or '') or 0) + took))
end

-- Add what an attempt has made: ARGV[first], ...: tokens of its prompt, tokens of its answer, images.
local function add_output(first)
  for i, field in ipairs({'prompt_tokens', 'completion_tokens', 'images'}) do
    local amount = tonumber(ARGV[first + i - 1] or '') or 0
    if amount > 0 then
      local before = tonumber(redis.call('HGET', record, field) or '') or 0
      redis.call('HSET', record, field, string.format('%.0f', before + amount))
    end
  end
end
