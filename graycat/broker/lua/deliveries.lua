-- Deliveries to webhooks, as tasks and batches enqueue them. Key names are those of broker/keys.py.
local DELIVERY_TTL_S = 25 * 3600

-- Return whether a webhook (JSON) asks for an event.
local function wants(webhook, event)
  if not webhook then return false end
  local ok, decoded = pcall(cjson.decode, webhook)
  if not ok or type(decoded) ~= 'table' or type(decoded.events) ~= 'table' then return false end
  for _, name in ipairs(decoded.events) do
    if name == event then return true end
  end
  return false
end

-- Enqueue the delivery of an event of a task or a batch: only once, so not at a second start. The record may be gone when
-- the last attempt is made, so the delivery keeps its content for a day and an hour. fields: field, value, ...
local function enqueue_delivery(id, event, webhook, fields)
  local delivery = 'graycat:delivery:' .. id .. ':' .. event
  if redis.call('EXISTS', delivery) == 1 then return end
  local now = now_ms()
  check_type('zset', 'graycat:deliveries')
  redis.call('HSET', delivery, 'state', 'pending', 'attempts', 0, 'event_ms', now, 'next_ms', now, 'webhook', webhook,
    unpack(fields))
  redis.call('EXPIRE', delivery, DELIVERY_TTL_S)
  redis.call('ZADD', 'graycat:deliveries', now, id .. ' ' .. event)
end
