-- Turn one record of a living process, on which that does not work, into an orphan.
-- KEYS 1 records that the process owns
--      2 orphans of its service
--      3 record
-- ARGV 1 process
--      2 name of the record
--      3 channel that wakes the service
-- Answers 1, or 0 if the process does not own the record, or the record is final.
local owned_key = KEYS[1]
local orphans_key = KEYS[2]
local record_key = KEYS[3]
local process = ARGV[1]
local name = ARGV[2]
local wake_channel = ARGV[3]

redis.call('SREM', owned_key, name)
local record = redis.call('HMGET', record_key, 'owner', 'final')
if record[1] ~= process or record[2] == '1' then return 0 end

redis.call('HINCRBY', record_key, 'epoch', 1)
redis.call('HSET', record_key, 'owner', '', 'claim', '')
redis.call('SADD', orphans_key, name)
redis.call('PUBLISH', wake_channel, 'orphan')
return 1
