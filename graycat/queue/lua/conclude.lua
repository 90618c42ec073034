-- The end of a task.
local DAY_MS = 24 * 3600 * 1000

-- Note that something has happened to this task which its webhook may be told (hook: the events that it asks for). Home
-- finds the note, looks at the record, and makes the delivery from what only home has written (webhooks/lua/observe.lua).
-- A note that is lost is made up for by a look that home takes now and then.
local function note_change(hook, queue, event)
  if not hook or not string.find(hook, event, 1, true) then return end
  try(function()
    local changed = prefix .. 'changed:' .. string.match(queue or '', '^%w*')
    check_type('zset', changed)
    redis.call('ZADD', changed, now_ms(), task_id)
    redis.call('PEXPIRE', changed, DAY_MS)
  end)
end

-- Note a failure for operators, who see the newest ones. Nothing of the request or the answer is in it.
local function note_failure(state, status, data)
  local failures = prefix .. 'failures.' .. family
  local r = redis.call('HMGET', record, 'kind', 'worker')
  -- Only the JSON's own quotes match: inside of a string they are escaped.
  local kind_of_error = string.match(string.sub(data, 1, 4096), '"type"%s*:%s*"([%w_]+)"') or ''
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
    'hook', 'state')
  check_type('stream', stream)
  if keep[8] == 'running' then add_engine_time() end
  redis.call('HSET', record, 'state', state, 'status', status, 'finished_ms', now_ms(), 'size', #data)
  redis.call('HDEL', record, 'lease_ms')
  leave_queue(keep[5], keep[4], leaves_message)
  -- The body may have megabytes, and only a retry needs it: it stays if it is small and the task has not succeeded.
  if keep[6] ~= '1' or state == 'succeeded' then redis.call('HDEL', record, 'body') end
  -- Who reads the events when they are gone is told so, unless it has this one.
  redis.call('HSET', record, 'last_event', emit(keep[3], kind, data))
  if state == 'failed' or state == 'expired' then note_failure(state, status, data) end
  note_change(keep[7], keep[5], state)
  for _, key in ipairs({live, unpack(owned_by(keep[4]))}) do
    try(function() redis.call('ZREM', key, task_id) end)
  end
  -- Another program may have taken the fields out of the record.
  -- What a webhook is told is read from the record, and home may be away for a while. It shortens the time when it has looked.
  redis.call('PEXPIRE', record, (tonumber(keep[1]) or DAY_MS) + (keep[7] and DAY_MS or 0))
  redis.call('PEXPIRE', stream, tonumber(keep[2]) or DAY_MS)
end
