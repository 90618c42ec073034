-- requires: broker/prelude broker/types queue/stored
-- Make the accounts what their charges are: another program may have written over them. ARGV: the most charges that are
-- added up at once. Returns how many accounts were wrong, or -1 if there are more charges.
check_type('hash', accounts)
check_type('zset', charges)
if redis.call('ZCARD', charges) > tonumber(ARGV[1]) then return -1 end
local sums, wrong = {}, 0
for _, entry in ipairs(redis.call('ZRANGE', charges, 0, -1)) do
  local bytes, _, owner = parse_charge(entry)
  if bytes then
    for _, name in ipairs(account_names(owner)) do sums[name] = (sums[name] or 0) + bytes end
  end
end
for _, name in ipairs(redis.call('HKEYS', accounts)) do
  if not sums[name] and name ~= LOOKED and name ~= FULL then
    redis.call('HDEL', accounts, name)
    wrong = wrong + 1
  end
end
for name, bytes in pairs(sums) do
  local text = string.format('%.0f', bytes)
  if redis.call('HGET', accounts, name) ~= text then
    redis.call('HSET', accounts, name, text)
    wrong = wrong + 1
  end
end
return wrong
