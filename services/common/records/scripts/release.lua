-- Turn all records of a process into orphans: raise their epochs, which fences its writes, and offer them to the service.
-- KEYS 1 lease of the process
--      2 processes of its service
--      3 records that it owns
--      4 orphans of the service
--      5 sweep lease of the service
-- ARGV 1 process
--      2 '1' if the process itself gives them up
--      3 channel that wakes the service
--      4 prefix of keys
-- Answers the number of orphans; 0 for another process that is alive.
local lease_key = KEYS[1]
local processes_key = KEYS[2]
local owned_key = KEYS[3]
local orphans_key = KEYS[4]
local sweep_key = KEYS[5]
local process = ARGV[1]
local by_itself = ARGV[2] == '1'
local wake_channel = ARGV[3]
local prefix = ARGV[4]

if not by_itself and redis.call('EXISTS', lease_key) == 1 then return 0 end
redis.call('DEL', lease_key)
redis.call('SREM', processes_key, process)
if redis.call('GET', sweep_key) == process then redis.call('DEL', sweep_key) end

local count = 0
for _, name in ipairs(redis.call('SMEMBERS', owned_key)) do
  local record_key = prefix .. ':{' .. name .. '}:record'
  local record = redis.call('HMGET', record_key, 'owner', 'final')
  if record[1] == process and record[2] ~= '1' then
    redis.call('HINCRBY', record_key, 'epoch', 1)
    redis.call('HSET', record_key, 'owner', '', 'claim', '')
    if by_itself then redis.call('HDEL', record_key, 'adopted_ms') end  -- an owner in good health: see adopt.lua
    redis.call('SADD', orphans_key, name)
    count = count + 1
  end
end

redis.call('DEL', owned_key)
if count > 0 then redis.call('PUBLISH', wake_channel, 'orphans') end
return count
