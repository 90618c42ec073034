-- requires: broker/prelude broker/types queue/task queue/queue_names queue/turns queue/usage queue/conclude
-- flags: allow-oom
-- End a running attempt. ARGV: attempt, state, HTTP status, event kind, event data, then what it has made (usage.lua).
-- Returns 1, or 0 if another attempt owns the task or it has ended.
local r = redis.call('HMGET', record, 'state', 'attempt', 'queue', 'kind', 'claimed_ms')
if r[1] ~= 'running' or r[2] ~= ARGV[1] then return 0 end
add_output(6)
conclude(ARGV[2], ARGV[3], ARGV[4], ARGV[5])
-- Update the moving averages of the duration of such tasks, from which waiting times are estimated, and of all tasks of
-- their queue, from which graycat scale-hint follows.
if ARGV[2] == 'succeeded' and r[3] and is_fair(r[3]) and r[5] then
  local means = prefix .. 'means.' .. family
  try(function()
    local took = now_ms() - r[5]
    for name, weight in pairs({[r[4]] = 0.2, [base_queue(r[3])] = 0.05}) do
      local mean = tonumber(redis.call('HGET', means, name) or '')
      redis.call('HSET', means, name, string.format('%.0f', mean and mean * (1 - weight) + took * weight or took))
    end
  end)
end
return 1
