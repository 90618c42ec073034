-- What callers' tasks hold in the broker, and how full it is. A task is charged to its owner, to the API token of that, and
-- to all together, from its creation until its record has no body any more. Those that end a task may write no accounts (a
-- box is one of them), so charges are settled later: by the control worker, and before a task is refused. Each task passes
-- here, so there are as few commands as possible.

-- Hash: bytes by owner; '*' is the sum of all. A player ("token/player") is charged to its token, too. And when the broker's
-- memory was last looked at (ms), and whether it was full (1).
local accounts, ALL, LOOKED, FULL = prefix .. 'stored', '*', '*looked_ms', '*full'
-- Sorted set of the charges, "bytes task owner", by the time when they were last looked at.
local charges = prefix .. 'stored:tasks'
local LOOK_MS, FULL_PERCENT = 1000, 85

-- Return the names of an owner's accounts: of all, of the owner, of its token.
local function account_names(owner)
  local token = string.match(owner, '^([^/]+)/')
  if token then return {ALL, owner, token} end
  return {ALL, owner}
end

-- Return a reply, or raise it if it is an error: as check_type does, if the key has another type.
local function check_reply(reply, wanted, key)
  if type(reply) == 'table' and reply.err then
    check_type(wanted, key)
    error(reply)
  end
  return reply
end

-- Return the bytes of accounts, and what is known of the broker's memory. What another program has written is no number.
local function read_accounts(names)
  local fields = {unpack(names)}
  fields[#fields + 1], fields[#fields + 2] = LOOKED, FULL
  local values = check_reply(redis.pcall('HMGET', accounts, unpack(fields)), 'hash', accounts)
  local held = {}
  for i = 1, #names do
    local text = values[i]
    held[i] = text and #text <= 16 and string.match(text, '^%d+$') and tonumber(text) or 0
  end
  return held, tonumber(values[#names + 1] or ''), values[#names + 2]
end

-- Change accounts from what was read of them. An account without bytes is no account.
local function change_accounts(names, held, bytes)
  local fields = {}
  for i, name in ipairs(names) do
    if held[i] + bytes > 0 then
      fields[#fields + 1], fields[#fields + 2] = name, string.format('%.0f', held[i] + bytes)
    else
      redis.call('HDEL', accounts, name)
    end
  end
  if #fields > 0 then redis.call('HSET', accounts, unpack(fields)) end
end

local function parse_charge(entry)
  local bytes, id, owner = string.match(entry, '^(%d+) (%S+) (.*)$')
  return tonumber(bytes or ''), id, owner
end

-- Look at the charges that nobody has looked at for the longest time, and take back those of tasks without a body.
local function settle(count, now)
  for _, entry in ipairs(redis.call('ZRANGE', charges, 0, count - 1)) do
    local bytes, id, owner = parse_charge(entry)
    if bytes and redis.pcall('HEXISTS', prefix .. 'task:' .. id, 'body') == 1 then
      redis.call('ZADD', charges, now, entry)
    else
      redis.call('ZREM', charges, entry)
      if bytes then
        local names = account_names(owner)
        change_accounts(names, read_accounts(names), -bytes)
      end
    end
  end
end

-- Return whether the broker has no room for new tasks. It is asked once a second: INFO takes as long as creating a task.
local function is_full(now, looked_ms, full)
  if looked_ms and looked_ms <= now and now - looked_ms < LOOK_MS then return full == '1' end
  local info = redis.pcall('INFO', 'memory')
  if type(info) ~= 'string' then return false end
  local used, most = string.match(info, 'used_memory:(%d+)'), string.match(info, 'maxmemory:(%d+)')
  local is_above = tonumber(most) > 0 and used * 100 >= most * FULL_PERCENT
  redis.call('HSET', accounts, LOOKED, now, FULL, is_above and 1 or 0)
  return is_above
end

-- Return which account has no room for so many bytes more: 'player', 'token' or 'all'; nil if all have. Limits of 0 are none.
local function find_overdrawn(held, bytes, limits)
  local function is_over(i, limit) return limit > 0 and held[i] + bytes > limit end
  if #held > 2 and is_over(2, limits.player) then return 'player' end
  if is_over(#held, limits.token) then return 'token' end
  if is_over(1, limits.all) then return 'all' end
end

-- Charge a new task; returns nil, or why there is no room for it: 'player', 'token', 'all' or 'broker'. To be called as the
-- first that writes, when other keys have been checked.
local function charge(owner, bytes, limits, now)
  local names = account_names(owner)
  local held, looked_ms, full = read_accounts(names)
  if is_full(now, looked_ms, full) then return 'broker' end
  if find_overdrawn(held, bytes, limits) then
    -- Nobody is refused for what has gone meanwhile.
    check_type('zset', charges)
    settle(200, now)
    held = read_accounts(names)
    local overdrawn = find_overdrawn(held, bytes, limits)
    if overdrawn then return overdrawn end
  end
  local entry = string.format('%.0f %s %s', bytes, task_id, owner)
  check_reply(redis.pcall('ZADD', charges, now, entry), 'zset', charges)
  change_accounts(names, held, bytes)
end
