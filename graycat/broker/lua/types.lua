-- Scripts are not rolled back: a command that fails in the middle leaves what was written before it. So a script checks
-- the types of the keys that it may write before its first write.

-- For each type a command that reads, and fails on a key of another one. TYPE would do for all, but users of boxes may
-- not use it. None may be a command that can write: behind such a one, a full broker refuses nothing more of the script.
local PROBES = {
  zset = function(key) return redis.pcall('ZCARD', key) end,
  list = function(key) return redis.pcall('LLEN', key) end,
  string = function(key) return redis.pcall('GET', key) end,
  hash = function(key) return redis.pcall('HEXISTS', key, '') end,
  set = function(key) return redis.pcall('SCARD', key) end,
  stream = function(key) return redis.pcall('XRANGE', key, '-', '+', 'COUNT', 1) end,
}

-- Raise WRONGTYPE, with the key's name and the wanted type, if a key has another type; graycat/broker/wrong_types.py reads
-- it. Returns the probe's reply. An error has no zero bytes and no line breaks, so the name is quoted as in a URL.
local function check_type(wanted, key)
  local reply = PROBES[wanted](key)
  if type(reply) == 'table' and reply.err then
    if not string.find(reply.err, 'WRONGTYPE', 1, true) then error(reply) end
    local name = string.gsub(key, '[^%w:._@/-]', function(char) return string.format('%%%02X', string.byte(char)) end)
    error({err = 'WRONGTYPE ' .. wanted .. ' ' .. name})
  end
  return reply
end

local function check_types(wanted, checked)
  for _, key in ipairs(checked) do check_type(wanted, key) end
end

-- Run what may be left out if a key has another type: what another request or a loop mends. Whatever it writes, it must
-- check before its first write.
local function try(action)
  local ok, failure = pcall(action)
  if ok then return true end
  local text = type(failure) == 'table' and failure.err or tostring(failure)
  if not string.find(text, 'WRONGTYPE', 1, true) then error(failure) end
  return false
end
