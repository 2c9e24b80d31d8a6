-- include services/common/records/scripts/shared/ownership.lua
-- Turn one record of a living process, on which that does not work, into an orphan.
-- KEYS 1 records that the process owns
--      2 orphans of its service
--      3 record
-- ARGV 1 process
--      2 name of the record
--      3 channel that wakes the service
-- Answers 1, or 0 if the process does not own the record, or the record is final or no hash.
local owned_key = KEYS[1]
local orphans_key = KEYS[2]
local record_key = KEYS[3]
local process = ARGV[1]
local name = ARGV[2]
local wake_channel = ARGV[3]

local record = redis.pcall('HMGET', record_key, 'owner', 'final')
call_owned('SREM', owned_key, name)
if record.err or record[1] ~= process or record[2] == '1' then return 0 end

raise_epoch(record_key)
redis.call('HSET', record_key, 'owner', '', 'claim', '')
redis.call('SADD', orphans_key, name)
redis.call('PUBLISH', wake_channel, 'orphan')
return 1
