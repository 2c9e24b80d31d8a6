-- include services/common/records/scripts/shared/ownership.lua
-- Take or renew the lease of a process.
-- KEYS 1 lease
--      2 processes of the service
--      3 records that the process owns
-- ARGV 1 process
--      2 time to live in ms
--      3 '1' to take the lease
-- A lease that ran out is revived as long as the process is listed: a sweeper that takes what it owns removes it.
-- Answers 1 + the number of records that the process owns; 0 if others may own them by now, or Redis was emptied.
local lease_key = KEYS[1]
local processes_key = KEYS[2]
local owned_key = KEYS[3]
local process = ARGV[1]
local ttl_ms = ARGV[2]
local is_first = ARGV[3] == '1'

if is_first then
  redis.call('SET', lease_key, '1', 'PX', ttl_ms)
  redis.call('SADD', processes_key, process)
elseif redis.call('SISMEMBER', processes_key, process) == 0 then
  return 0
else
  redis.call('SET', lease_key, '1', 'PX', ttl_ms)
end
return 1 + call_owned('SCARD', owned_key)
