-- requires: broker/prelude broker/types queue/task queue/queue_names queue/turns queue/usage queue/conclude
-- flags: allow-oom
-- Start an attempt. ARGV: worker, lease (ms), attempts allowed, error for an expired task, error for a lost one, and then
-- the queues that this worker does not take from now: paused, or left.
-- Returns {verdict}, or {'run', attempt, kind, mode, body, exec_timeout_ms, request_id, whether an answer has begun (0, 1),
-- id of the `started` event, owner, queue, how long it has waited (ms), at how many deaths of engines it was there,
-- channels of the web processes that wait for it, whether it is looked at by its id (0, 1)}.
local r = redis.call('HMGET', record, 'state', 'attempt', 'cancel', 'queue_deadline_ms', 'lease_ms',
  'kind', 'mode', 'body', 'exec_timeout_ms', 'request_id', 'keep_record_ms', 'owner', 'first_event_ms', 'queue',
  'hook', 'channels', 'followed', 'submitted_ms', 'enqueued_ms', 'charged', 'deaths', 'keep_body')
local state, attempt, now = r[1], tonumber(r[2] or 0), now_ms()
if not (state and r[14]) then return {'gone'} end
if is_terminal(state) then
  if redis.call('HDEL', record, 'left_message') == 1 and (parse_count(redis.pcall('GET', dead_key(r[14]))) or 0) > 0 then
    redis.call('DECR', dead_key(r[14]))
  end
  return {'finished'}
end
-- Without one of these it is no record of ours: another program has written it.
if not (attempt and tonumber(r[4]) and r[6] and r[7] and r[8] and tonumber(r[9]) and tonumber(r[11])) then
  return {'gone'}
end
-- Its message was delivered twice, and the first attempt still renews its lease.
if state == 'running' and tonumber(r[5] or 0) > now then return {'leased'} end
if r[3] then
  conclude('cancelled', 499, 'cancelled', '')
  return {'cancelled'}
end
if attempt == 0 and now > tonumber(r[4]) then
  conclude('expired', 503, 'error', ARGV[4])
  return {'expired'}
end
-- Only attempts that the task itself may have ended are charged (release.lua), and those that died with their worker.
local charged = tonumber(r[20] or 0)
if state == 'running' then charged = charged + 1 end
if charged >= tonumber(ARGV[3]) then
  conclude('failed', 502, 'error', ARGV[5])
  return {'lost'}
end
-- A batch task runs only in gaps. There is no gap while an interactive task is parked: it enters its queue next. Where
-- this worker does not take it, it holds up nothing: an operator who pauses a queue does not stop the batches, too.
local family, lane, target = parse_queue(r[14])
if lane == 'batch' then
  local excluded = {}
  for index = 6, #ARGV do excluded[ARGV[index]] = true end
  for _, queue in ipairs({family, family .. target}) do
    if excluded[queue] then
      -- A paused queue is paused with those of its models and workers.
      if queue == family then break end
    elseif count_parked(queue) > 0 then
      return {'yield'}
    end
  end
end
check_type('stream', stream)
if state == 'running' then
  -- Not before: a batch task that yields is claimed again a moment later, and again.
  redis.call('HSET', record, 'charged', charged)
  add_engine_time()
end
attempt = attempt + 1
redis.call('HSET', record, 'state', 'running', 'attempt', attempt, 'worker', ARGV[1], 'lease_ms', now + ARGV[2],
  'claimed_ms', now)
redis.call('HSETNX', record, 'started_ms', now)
-- The progress of the last attempt says nothing about this one.
if attempt > 1 then redis.call('HDEL', record, 'progress') end
local lifetime = r[9] + r[11] + 60000
redis.call('PEXPIRE', record, lifetime)
-- It is not pushed to a request that waits for its answer: waking that process costs as much as a token.
local started = emit(r[17] and r[16] or nil, 'started', tostring(attempt))
redis.call('PEXPIRE', stream, lifetime)
note_change(r[15], r[14], 'started')
-- A message of another program may start a task before its turn: then it is parked still.
leave_queue(r[14], r[12])
return {'run', attempt, r[6], r[7], r[8], r[9], r[10] or '', r[13] and 1 or 0, started, r[12] or '', r[14],
  now - (attempt == 1 and r[18] or r[19] or now), tonumber(r[21] or 0), r[16] or '', r[22] and 1 or 0}
