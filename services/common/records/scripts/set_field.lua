-- Set a field that processes other than the owner may write, if the record exists.
-- KEYS 1 record
-- ARGV 1 field
--      2 value
-- Answers 1, or 0 if there is no record.
local record_key = KEYS[1]
local field = ARGV[1]
local value = ARGV[2]

if redis.call('EXISTS', record_key) == 0 then return 0 end
redis.call('HSET', record_key, field, value)
return 1
