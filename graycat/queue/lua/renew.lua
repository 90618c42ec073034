-- requires: broker/prelude queue/task
-- flags: allow-oom
-- Renew a running attempt's lease. ARGV: attempt, lease (ms). Returns 'ok', 'cancel' or 'stale'.
local r = redis.call('HMGET', record, 'state', 'attempt', 'cancel')
if r[1] ~= 'running' or r[2] ~= ARGV[1] then return 'stale' end
redis.call('HSET', record, 'lease_ms', now_ms() + ARGV[2])
return r[3] or 'ok'
