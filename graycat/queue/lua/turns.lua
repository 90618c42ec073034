-- Turns: round-robin between the owners of tasks in a shared queue. Of each owner only one queued task has its message in
-- the queue. The others are parked, and enter it one by one as the task before them is claimed. So an owner with 500 tasks
-- delays another owner's task by one. Quick queues have no turns (see is_fair).

-- Owners and queues may have colons in their names, so a colon between them would not keep two pairs apart.
local function turn_key(queue, owner) return prefix .. 'turn.' .. (parse_queue(queue)) .. ':' .. owner .. '\0' .. queue end
local function parked_key(queue, owner) return prefix .. 'aside.' .. (parse_queue(queue)) .. ':' .. owner .. '\0' .. queue end
local function owners_key(queue) return prefix .. 'owners:' .. queue end
-- The queues in which owners have a turn, for the sweeper. Only create.lua adds to it.
local turns_key = prefix .. 'turns.' .. family
local function parked_count_key(queue) return prefix .. 'asides:' .. queue end
-- How many messages in a queue belong to ended tasks: they do not count as waiting.
local function dead_key(queue) return prefix .. 'dead:' .. queue end

-- A counter's value; nil if it cannot be one: INCR fails on what is no number, and nobody can wait below zero times.
local function parse_count(text)
  local count = type(text) == 'string' and #text <= 15 and string.match(text, '^%d+$') and tonumber(text)
  return count or nil
end

-- How many tasks are parked before a queue. Each of them has an owner with a turn, so without one there is none.
local function count_parked(queue)
  local count = parse_count(redis.pcall('GET', parked_count_key(queue))) or 0
  if count > 0 and redis.call('EXISTS', owners_key(queue)) == 0 then return 0 end
  return count
end

-- How many tasks wait for a queue, parked ones among them.
local function count_waiting(queue)
  local length = redis.call('LLEN', queue)
  local dead = math.min(parse_count(redis.call('GET', dead_key(queue))) or 0, length)
  return length - dead + count_parked(queue)
end

-- How many owners one script looks at, and parked tasks it drops: a worker may have written anything there, and a long loop
-- holds up everybody. The sweeper goes on later.
local owners_left, drops_left = 10000, 1000

local function list_owners(queue)
  if owners_left <= 0 then return {} end
  local owners = redis.call('ZRANGE', owners_key(queue), 0, owners_left - 1)
  owners_left = owners_left - #owners
  return owners
end

-- Count the parked tasks anew: another program may have written over the counter.
local function recount_parked(queue)
  local count, written = 0, redis.call('GET', parked_count_key(queue))
  for _, owner in ipairs(list_owners(queue)) do
    local length = redis.pcall('LLEN', parked_key(queue, owner))
    if type(length) == 'number' then count = count + length end
  end
  if written and written ~= tostring(count) or not written and count > 0 then
    redis.call('SET', parked_count_key(queue), count)
  end
end

-- Before a script's first write: the keys that turns may need have their types, and counters hold numbers.
local function check_turns(queue, owner)
  if not queue then return end
  if is_fair(queue) then
    check_type('string', turn_key(queue, owner))
    check_type('list', parked_key(queue, owner))
    check_type('zset', owners_key(queue))
    check_type('set', turns_key)
    check_type('list', queue)
    local parked = check_type('string', parked_count_key(queue))
    if parked and not parse_count(parked) then recount_parked(queue) end
  end
  local dead = check_type('string', dead_key(queue))
  if dead and not parse_count(dead) then redis.call('SET', dead_key(queue), 0) end
end

-- The task has ended, and its message is still in the queue: claim.lua counts that message out.
local function leave_message(queue)
  if queue and not redis.call('HGET', record, 'message') then
    redis.call('INCR', dead_key(queue))
    redis.call('HSET', record, 'left_message', 1)
  end
end
local function is_queued(id)
  return id and redis.call('HGET', prefix .. 'task:' .. id, 'state') == 'queued'
end

-- Give a task its owner's turn: its message enters the queue. Owners are sorted by the time of their messages.
local function take_turn(queue, owner, id, message)
  local t = redis.call('TIME')
  redis.call('SET', turn_key(queue, owner), id)
  redis.call('ZADD', owners_key(queue), t[1] * 1000000 + t[2], owner)
  redis.call('LPUSH', queue, message)
end

-- Give the turn to the owner's next task that is still queued; if there is none, the owner has no turn any more.
local function next_turn(queue, owner)
  while drops_left > 0 do
    drops_left = drops_left - 1
    local id = redis.call('LPOP', parked_key(queue, owner))
    if not id then
      redis.call('DEL', turn_key(queue, owner))
      redis.call('ZREM', owners_key(queue), owner)
      if redis.call('EXISTS', owners_key(queue)) == 0 then redis.call('SREM', turns_key, queue) end
      return
    end
    redis.call('DECR', parked_count_key(queue))
    local key = prefix .. 'task:' .. id
    local r = redis.call('HMGET', key, 'state', 'message')
    if r[1] == 'queued' and r[2] then
      redis.call('HDEL', key, 'message')
      redis.call('HSET', key, 'enqueued_ms', now_ms())
      take_turn(queue, owner, id, r[2])
      return
    end
  end
end

-- This task does not wait for its turn any more, and makes room at once.
local function unpark(queue, owner)
  if redis.call('HDEL', record, 'message') == 1 and redis.call('LREM', parked_key(queue, owner), 1, task_id) == 1 then
    redis.call('DECR', parked_count_key(queue))
  end
end

-- This task is not queued any more: the next one of its owner takes the turn.
local function pass_turn(queue, owner)
  if queue and is_fair(queue) and redis.call('GET', turn_key(queue, owner or '')) == task_id then
    next_turn(queue, owner or '')
  end
end

-- This task is not queued any more. leaves_message: its message is still in the queue, unless it was parked. Neither its
-- start nor its end waits for turns that another program has written over: the sweeper passes them on later.
local function leave_queue(queue, owner, leaves_message)
  try(function()
    check_turns(queue, owner or '')
    if leaves_message then leave_message(queue) end
    unpark(queue, owner or '')
    pass_turn(queue, owner)
  end)
end
