-- requires: broker/prelude broker/types queue/task queue/queue_names queue/turns
-- Return how full queues are. ARGV: their names. Returns two numbers for each: how many tasks wait for it, parked ones
-- among them, and for how many ms the oldest has waited (-1 if no task is known to wait).
-- The oldest is the first in the queue, or the first parked one of an owner. Only LOOK_AT messages from a queue's head are
-- looked at: messages of ended tasks may be there.
local LOOK_AT = 100
local now = now_ms()

local function waited_ms(id)
  local r = redis.call('HMGET', prefix .. 'task:' .. id, 'state', 'submitted_ms')
  return r[1] == 'queued' and now - r[2] or -1
end

local function first_waited_ms(queue)
  for index = 1, LOOK_AT do
    local message = redis.call('LINDEX', queue, -index)
    if not message then return -1 end
    local ok, decoded = pcall(cjson.decode, message)
    local headers = ok and type(decoded) == 'table' and decoded.headers
    local waited = type(headers) == 'table' and headers.id and waited_ms(headers.id) or -1
    if waited >= 0 then return waited end
  end
  return -1
end

local reply = {}
for _, queue in ipairs(ARGV) do
  local length = redis.call('LLEN', queue)
  local parked = count_parked(queue)
  local dead = math.min(parse_count(redis.call('GET', dead_key(queue))) or 0, length)
  local oldest = length - dead > 0 and first_waited_ms(queue) or -1
  if parked > 0 then
    for _, owner in ipairs(redis.call('ZRANGE', owners_key(queue), 0, LOOK_AT - 1)) do
      local id = redis.call('LINDEX', parked_key(queue, owner), 0)
      oldest = math.max(oldest, id and waited_ms(id) or -1)
    end
  end
  reply[#reply + 1] = length - dead + parked
  reply[#reply + 1] = oldest
end
return reply
