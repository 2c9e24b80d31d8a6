-- Take or renew the sweep lease of a service, and list the processes whose own lease has run out.
-- KEYS 1 sweep lease
--      2 processes of the service
-- ARGV 1 process
--      2 time to live in ms
--      3 beginning of the keys of leases
-- Answers {1, number of names that were dropped, as they can't be a process's, dead process ...}, or {0} if another
-- process holds the sweep lease.
local sweep_key = KEYS[1]
local processes_key = KEYS[2]
local process = ARGV[1]
local ttl_ms = ARGV[2]
local lease_prefix = ARGV[3]

local holder = redis.call('GET', sweep_key)
if holder and holder ~= process then return {0} end
redis.call('SET', sweep_key, process, 'PX', ttl_ms)

-- A sweeper whose own lease has run out lives all the same, and so may all others.
if redis.call('EXISTS', lease_prefix .. process) == 0 then return {1, 0} end

local service = process:match('^[^-]+-')
local function is_name(text) return text:find(service, 1, true) == 1 and text:find('^[!-~]+$') end

local reply = {1, 0}
for _, other in ipairs(redis.call('SMEMBERS', processes_key)) do
  if not is_name(other) then
    redis.call('SREM', processes_key, other)
    reply[2] = reply[2] + 1
  elseif redis.call('EXISTS', lease_prefix .. other) == 0 then
    reply[#reply + 1] = other
  end
end
return reply
