-- include services/common/records/scripts/shared/ownership.lua
-- Raise the epoch of a build without an owner, so that arq takes its next job for another one.
-- KEYS 1 record
-- ARGV 1 epoch that the record must have
-- Answers the new epoch, or 0 if the build has an owner, another epoch, or has ended.
local record_key = KEYS[1]
local expected_epoch = ARGV[1]

local record = redis.call('HMGET', record_key, 'owner', 'epoch', 'final')
if record[1] ~= '' or record[2] ~= expected_epoch or record[3] == '1' then return 0 end
return raise_epoch(record_key)
