-- Accept a task: its record and its message, together or not at all. KEYS[4]: the queue.
-- ARGV: lifetime while unfinished (ms), queue_ttl (ms), Celery message, queue cap, then field, value, ...
-- Returns 1, 0 where the id is taken, or -1 where the queue is full.
if redis.call('EXISTS', record) == 1 then return 0 end
if redis.call('LLEN', KEYS[4]) >= tonumber(ARGV[4]) then return -1 end
local now = now_ms()
redis.call('HSET', record, 'state', 'queued', 'attempt', 0, 'submitted_ms', now, 'enqueued_ms', now,
  'queue_deadline_ms', now + ARGV[2], unpack(ARGV, 5))
redis.call('PEXPIRE', record, ARGV[1])
redis.call('ZADD', live, now, task_id)
for _, key in ipairs(owned_by(redis.call('HGET', record, 'owner'))) do redis.call('ZADD', key, now, task_id) end
redis.call('LPUSH', KEYS[4], ARGV[3])
return 1
