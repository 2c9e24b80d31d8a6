-- include services/common/records/scripts/shared/ownership.lua
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
--      5 kind of records that the service owns
-- Answers {number of orphans, number of names and records that were dropped, as nobody can own them}; {0, 0} for another
-- process that is alive.
--
-- The process itself is forgotten last: if anything stops the script, the next sweep finds it again.
local lease_key = KEYS[1]
local processes_key = KEYS[2]
local owned_key = KEYS[3]
local orphans_key = KEYS[4]
local sweep_key = KEYS[5]
local process = ARGV[1]
local by_itself = ARGV[2] == '1'
local wake_channel = ARGV[3]
local prefix = ARGV[4]
local kind = ARGV[5]

if not by_itself and redis.call('EXISTS', lease_key) == 1 then return {0, 0} end

local orphans, dropped = 0, 0
local failure
for _, name in ipairs(call_owned('SMEMBERS', owned_key)) do
  local is_ours = name:find(kind .. ':', 1, true) == 1
  local record_key = prefix .. ':{' .. name .. '}:record'
  local record = is_ours and redis.pcall('HMGET', record_key, 'owner', 'final') or {}
  if not is_ours or is_wrong_type(record) then
    dropped = dropped + 1
  elseif record.err then
    failure = record
  elseif record[1] == process and record[2] ~= '1' then
    redis.call('SADD', orphans_key, name)
    raise_epoch(record_key)
    redis.call('HSET', record_key, 'owner', '', 'claim', '')
    if by_itself then redis.call('HDEL', record_key, 'on_trial') end  -- an owner in good health: see adopt.lua
    orphans = orphans + 1
  end
end

if orphans > 0 then redis.call('PUBLISH', wake_channel, 'orphans') end
if failure then return failure end

redis.call('DEL', owned_key, lease_key)
redis.call('SREM', processes_key, process)
if redis.call('GET', sweep_key) == process then redis.call('DEL', sweep_key) end
return {orphans, dropped}
