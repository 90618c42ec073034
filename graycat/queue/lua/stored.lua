-- What callers' tasks and batches hold in the broker, and how full it is. They are charged to their owner, to the API token
-- of that, and to all together, from their creation until their record has no input any more. Those that end a task may
-- write no accounts (a box is one of them), so charges are settled later: by the control worker, and before anything is
-- refused. Each task passes here, so there are as few commands as possible.

-- Hash: bytes by owner; '*' is the sum of all. A player ("token/player") is charged to its token, too. And when the broker's
-- memory was last looked at (ms), and whether it was full (1).
local accounts, ALL, LOOKED, FULL = 'graycat:stored', '*', '*looked_ms', '*full'
-- Sorted set of the charges, "bytes holder owner", by the time when they were last looked at. A holder is "task:ID" or
-- "batch:ID", as its record is called.
local charges = 'graycat:stored:charges'
-- The field of a record that has the input.
local INPUTS = {task = 'body', batch = 'document'}
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
  local bytes, holder, owner = string.match(entry, '^(%d+) (%S+) (.*)$')
  return tonumber(bytes or ''), holder, owner
end

-- Look at the charges that nobody has looked at for the longest time, and take back those without an input.
local function settle(count, now)
  for _, entry in ipairs(redis.call('ZRANGE', charges, 0, count - 1)) do
    local bytes, holder, owner = parse_charge(entry)
    local input = bytes and INPUTS[string.match(holder, '^%a*')]
    if input and redis.pcall('HEXISTS', 'graycat:' .. holder, input) == 1 then
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

-- Charge a new holder; returns nil, or why there is no room for it: 'player', 'token', 'all' or 'broker'. To be called as the
-- first that writes, when other keys have been checked.
local function charge(holder, owner, bytes, limits, now)
  local names = account_names(owner)
  local held, looked_ms, full = read_accounts(names)
  if is_full(now, looked_ms, full) then return 'broker' end
  -- The items of a batch are paid for with its plan.
  if bytes == 0 then return nil end
  if find_overdrawn(held, bytes, limits) then
    -- Nobody is refused for what has gone meanwhile.
    check_type('zset', charges)
    settle(200, now)
    held = read_accounts(names)
    local overdrawn = find_overdrawn(held, bytes, limits)
    if overdrawn then return overdrawn end
  end
  local entry = string.format('%.0f %s %s', bytes, holder, owner)
  -- A name that is used anew, when the record of its last task is gone, may be charged still: the same is charged once.
  if check_reply(redis.pcall('ZADD', charges, now, entry), 'zset', charges) == 1 then change_accounts(names, held, bytes) end
end
