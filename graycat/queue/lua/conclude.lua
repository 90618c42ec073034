-- The end of a task.

-- Enqueue the delivery of an event of this task to its webhook, if the webhook asks for that event.
local function notify(webhook, event)
  if not wants(webhook, event) then return end
  local fields = {'task_state', redis.call('HGET', record, 'state')}
  for _, field in ipairs({'owner', 'kind', 'status', 'submitted_ms', 'started_ms', 'finished_ms', 'metadata'}) do
    local value = redis.call('HGET', record, field)
    if value then
      fields[#fields + 1] = field
      fields[#fields + 1] = value
    end
  end
  enqueue_delivery(task_id, event, webhook, fields)
end

-- Note a failure for operators, who see the newest ones. Nothing of the request or the answer is in it.
local function note_failure(state, status, data)
  local failures = prefix .. 'failures'
  local r = redis.call('HMGET', record, 'kind', 'worker')
  -- Only the JSON's own quotes match: inside of a string they are escaped.
  local kind_of_error = string.match(data, '"type"%s*:%s*"([%w_]+)"') or ''
  redis.call('XADD', failures, 'MAXLEN', '~', 100, '*', 'task', task_id, 'kind', r[1] or '', 'worker', r[2] or '',
    'state', state, 'status', status, 'type', string.sub(kind_of_error, 1, 64))
  redis.call('PEXPIRE', failures, 7 * 24 * 3600 * 1000)
end

-- Write the terminal state. Callers have checked that there is none yet.
local function conclude(state, status, kind, data)
  local keep = redis.call('HMGET', record, 'keep_record_ms', 'keep_events_ms', 'channels', 'owner', 'queue', 'keep_body',
    'webhook')
  redis.call('HSET', record, 'state', state, 'status', status, 'finished_ms', now_ms(), 'size', #data)
  redis.call('HDEL', record, 'lease_ms')
  unpark(keep[5], keep[4])
  -- The body may have megabytes. If the task cannot be retried, it is not needed any more.
  if not keep[6] then redis.call('HDEL', record, 'body') end
  emit(keep[3], kind, data)
  if state == 'failed' or state == 'expired' then note_failure(state, status, data) end
  notify(keep[7], state)
  redis.call('ZREM', live, task_id)
  for _, key in ipairs(owned_by(keep[4])) do redis.call('ZREM', key, task_id) end
  redis.call('PEXPIRE', record, keep[1])
  redis.call('PEXPIRE', stream, keep[2])
  pass_turn(keep[5], keep[4])
end
