-- requires: broker/prelude queue/task queue/usage
-- flags: allow-oom
-- Hand a running attempt back to the queue. ARGV: attempt, and why: 'charged' if it may be the task's own fault; 'free' if
-- it is not; 'engine died' if it shared an engine that died, so that the fault cannot be told; 'engine died alone' if it had
-- the engine to itself. Then two bounds: deaths alone, and deaths in all, with which a task is not tried again; then what
-- the attempt has made (usage.lua).
-- Returns 1; 0 if another attempt owns the task; 2 if the task has ended too many engines (nothing has changed).
local r = redis.call('HMGET', record, 'state', 'attempt')
if r[1] ~= 'running' or r[2] ~= ARGV[1] then return 0 end
if ARGV[2] == 'engine died' or ARGV[2] == 'engine died alone' then
  local deaths = redis.call('HINCRBY', record, 'deaths', 1)
  local alone = tonumber(redis.call('HGET', record, 'deaths_alone') or 0)
  if ARGV[2] == 'engine died alone' then alone = redis.call('HINCRBY', record, 'deaths_alone', 1) end
  if alone >= tonumber(ARGV[3]) or deaths >= tonumber(ARGV[4]) then return 2 end
elseif ARGV[2] == 'charged' then
  redis.call('HINCRBY', record, 'charged', 1)
end
add_engine_time()
add_output(5)
redis.call('HSET', record, 'state', 'queued', 'enqueued_ms', now_ms())
redis.call('HDEL', record, 'lease_ms')
return 1
