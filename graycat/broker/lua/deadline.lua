-- For scripts that create something: they do not run for a caller that has given up. A command that was sent to a broker
-- which hangs is run when that goes on, and nobody would know of what it has created.
-- The last argument says until when the script may run (ms, by the broker's clock; 0: for ever). It is taken off.
local deadline_ms = tonumber(table.remove(ARGV))
if deadline_ms > 0 and now_ms() > deadline_ms then return redis.error_reply('LATE ' .. now_ms()) end
