-- Note in a record that its owner has lived through the time of trial: the adoption did not kill it.
-- KEYS 1 record
-- ARGV 1 claim of the owner
-- Answers 1, or 0 if another process owns the record by now, or it is no hash.
local record_key = KEYS[1]
local claim = ARGV[1]

if redis.pcall('HGET', record_key, 'claim') ~= claim then return 0 end
redis.call('HDEL', record_key, 'on_trial')
return 1
