-- requires: broker/prelude broker/types queue/task queue/queue_names queue/turns queue/usage queue/conclude
-- flags: allow-oom
-- Note that a worker could not run a task because it does not know its kind; the worker has dropped the message.
-- The sweeper enqueues the task again. Until then the next task of its owner has the turn.
-- ARGV: the kind's name in the message, how often until the task fails, event data.
-- Returns 1 if the task has failed by this; else 0.
local r = redis.call('HMGET', record, 'state', 'kind', 'lease_ms', 'queue', 'owner')
if not r[1] or is_terminal(r[1]) or r[2] ~= ARGV[1] then return 0 end
if r[1] == 'running' and tonumber(r[3] or 0) > now_ms() then return 0 end
if redis.call('HINCRBY', record, 'refusals', 1) < tonumber(ARGV[2]) then
  try(function()
    check_turns(r[4], r[5] or '')
    pass_turn(r[4], r[5])
  end)
  return 0
end
conclude('failed', 501, 'error', ARGV[3])
return 1
