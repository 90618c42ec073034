-- The end of a task.
local DAY_MS = 24 * 3600 * 1000

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
  try(function() enqueue_delivery(task_id, event, webhook, fields) end)
end

-- Note a failure for operators, who see the newest ones. Nothing of the request or the answer is in it.
local function note_failure(state, status, data)
  local failures = prefix .. 'failures'
  local r = redis.call('HMGET', record, 'kind', 'worker')
  -- Only the JSON's own quotes match: inside of a string they are escaped.
  local kind_of_error = string.match(data, '"type"%s*:%s*"([%w_]+)"') or ''
  try(function()
    redis.call('XADD', failures, 'MAXLEN', '~', 100, '*', 'task', task_id, 'kind', r[1] or '', 'worker', r[2] or '',
      'state', state, 'status', status, 'type', string.sub(kind_of_error, 1, 64))
    redis.call('PEXPIRE', failures, 7 * 24 * 3600 * 1000)
  end)
end

-- Write the terminal state. Callers have checked that there is none yet, and have written nothing that must not stay if this
-- fails. leaves_message: the task's message is in its queue, unless it was parked. An end, with its answer, waits for no key
-- that only helps to find tasks: if another program has written over that, the task is not in it any more.
local function conclude(state, status, kind, data, leaves_message)
  local keep = redis.call('HMGET', record, 'keep_record_ms', 'keep_events_ms', 'channels', 'owner', 'queue', 'keep_body',
    'webhook')
  check_type('stream', stream)
  redis.call('HSET', record, 'state', state, 'status', status, 'finished_ms', now_ms(), 'size', #data)
  redis.call('HDEL', record, 'lease_ms')
  leave_queue(keep[5], keep[4], leaves_message)
  -- The body may have megabytes, and only a retry needs it: it stays if it is small and the task has not succeeded.
  if keep[6] ~= '1' or state == 'succeeded' then redis.call('HDEL', record, 'body') end
  emit(keep[3], kind, data)
  if state == 'failed' or state == 'expired' then note_failure(state, status, data) end
  notify(keep[7], state)
  for _, key in ipairs({live, unpack(owned_by(keep[4]))}) do
    try(function() redis.call('ZREM', key, task_id) end)
  end
  -- Another program may have taken the fields out of the record.
  redis.call('PEXPIRE', record, tonumber(keep[1]) or DAY_MS)
  redis.call('PEXPIRE', stream, tonumber(keep[2]) or DAY_MS)
end
