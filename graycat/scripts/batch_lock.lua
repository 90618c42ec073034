-- Take a lock or keep it. KEYS: the lock. ARGV: whose it shall be, for how long (ms). Returns 1, or 0: another has it.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
