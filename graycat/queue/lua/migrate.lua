-- requires: broker/prelude broker/types
-- Move what earlier releases kept of all families in one key to the keys of each family. Only home runs this.
-- KEYS: the old ones: live tasks, turns, means, fleet, failures, quarantine. ARGV: the key of home's failures, that of its
-- quarantine, then three for each family: its name, the first digits of its ids, its kinds of workers between blanks.
-- Returns how many entries were moved. What is left when there are very many is moved by the next call.
local MOST = 5000
local prefix = string.match(KEYS[1], '^(.*:)live$')
local family_of_digit, family_of_kind = {}, {}
for i = 3, #ARGV, 3 do
  for digit in string.gmatch(ARGV[i + 1], '.') do family_of_digit[digit] = ARGV[i] end
  for kind in string.gmatch(ARGV[i + 2], '%S+') do family_of_kind[kind] = ARGV[i] end
end
local moved = 0

local function move_member(from, to, member, score, is_over)
  if redis.call('ZREM', from, member) == 1 and not is_over then redis.call('ZADD', to, score, member) end
end

-- A worker of this release may have looked for turns before, found none under the new names, and taken the owner off.
local function move_owner(queue, family, owner)
  local rest = owner .. '\0' .. queue
  local turn, parked = prefix .. 'turn.' .. family .. ':' .. rest, prefix .. 'aside.' .. family .. ':' .. rest
  check_type('list', parked)
  check_type('zset', prefix .. 'owners:' .. queue)
  check_type('set', prefix .. 'turns.' .. family)
  local id = redis.pcall('GET', prefix .. 'turn:' .. rest)
  local has_turn = type(id) == 'string'
  if has_turn then redis.call('SET', turn, id, 'NX') end
  local waiting = redis.pcall('LRANGE', prefix .. 'aside:' .. rest, 0, -1)
  if waiting.err then waiting = {} end
  for _, task in ipairs(waiting) do redis.call('RPUSH', parked, task) end
  if has_turn or #waiting > 0 then
    local t = redis.call('TIME')
    redis.call('ZADD', prefix .. 'owners:' .. queue, 'NX', t[1] * 1000000 + t[2], owner)
    redis.call('SADD', prefix .. 'turns.' .. family, queue)
  end
  redis.call('DEL', prefix .. 'turn:' .. rest, prefix .. 'aside:' .. rest)
end

local function move_live()
  local done = {}
  local entries = redis.call('ZRANGE', KEYS[1], 0, MOST - 1, 'WITHSCORES')
  for i = 1, #entries, 2 do
    local id, score = entries[i], entries[i + 1]
    local family = family_of_digit[string.sub(id, 1, 1)]
    local r = redis.pcall('HMGET', prefix .. 'task:' .. id, 'owner', 'queue', 'state')
    local owner, queue = r[1], r[2]
    -- A worker of this release has ended it, and knows the new keys alone.
    local is_over = is_terminal(r[3])
    if family and owner then
      local pair = owner .. '\0' .. (queue or '')
      if queue and not done[pair] and string.match(queue, '^[^.:]*') == family then
        try(function() move_owner(queue, family, owner) end)
      end
      done[pair] = true
      move_member(prefix .. 'live:' .. owner, prefix .. 'live.' .. family .. ':' .. owner, id, score, is_over)
      local parent = string.match(owner, '^([^/]+)/')
      if parent then
        move_member(prefix .. 'live-players:' .. parent, prefix .. 'players.' .. family .. ':' .. parent, id, score, is_over)
      end
    end
    if family and not is_over then redis.call('ZADD', prefix .. 'live.' .. family, score, id) end
    redis.call('ZREM', KEYS[1], id)
    moved = moved + 1
  end
end

local function move_turns()
  for _, queue in ipairs(redis.call('SMEMBERS', KEYS[2])) do
    local family = string.match(queue, '^[^.:]*')
    for _, owner in ipairs(redis.call('ZRANGE', prefix .. 'owners:' .. queue, 0, -1)) do
      try(function() move_owner(queue, family, owner) end)
    end
    redis.call('SADD', prefix .. 'turns.' .. family, queue)
    redis.call('SREM', KEYS[2], queue)
    moved = moved + 1
  end
end

local function move_means()
  local means = redis.call('HGETALL', KEYS[3])
  for i = 1, #means, 2 do
    redis.call('HSETNX', prefix .. 'means.' .. string.match(means[i], '^[^.]*'), means[i], means[i + 1])
  end
  redis.call('DEL', KEYS[3])
end

local function move_fleet()
  local workers = redis.call('ZRANGE', KEYS[4], 0, -1, 'WITHSCORES')
  for i = 1, #workers, 2 do
    local share = family_of_kind[string.match(workers[i], '^[^@]*')] or 'home'
    redis.call('ZADD', prefix .. 'fleet.' .. share, workers[i + 1], workers[i])
  end
  redis.call('DEL', KEYS[4])
end

local function move_failures()
  for _, entry in ipairs(redis.call('XRANGE', KEYS[5], '-', '+', 'COUNT', 200)) do
    -- An id that is later than those there; else it is among them already.
    redis.pcall('XADD', ARGV[1], 'MAXLEN', '~', 100, entry[1], unpack(entry[2]))
  end
  redis.call('DEL', KEYS[5])
  redis.call('PEXPIRE', ARGV[1], 7 * 24 * 3600 * 1000)
end

local function move_quarantine()
  for _, item in ipairs(redis.call('LRANGE', KEYS[6], 0, 99)) do redis.call('RPUSH', ARGV[2], item) end
  redis.call('DEL', KEYS[6])
  redis.call('PEXPIRE', ARGV[2], 7 * 24 * 3600 * 1000)
end

for number, move in ipairs({move_live, move_turns, move_means, move_fleet, move_failures, move_quarantine}) do
  -- One that cannot be read is of another program, and nobody reads it any more.
  if redis.call('EXISTS', KEYS[number]) == 1 and not try(move) then redis.call('DEL', KEYS[number]) end
end
return moved
