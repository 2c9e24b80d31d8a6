-- include services/common/records/scripts/shared/ownership.lua
-- Request that a build be stopped, unless another wants it: a launch that waits, or another API client.
-- KEYS 1 record
--      2 launches that wait for the build
--      3 abandoned builds, with the time to stop them; given to stop the build only if its time has come
-- ARGV 1 reason
--      2 error code
--      3 '1' to stop it even if another wants it
--      4 API client that requests it
--      5 build id
--      6 time now in ms
-- Answers 1, or 0 if the build goes on, or has ended.
local record_key = KEYS[1]
local waiters_key = KEYS[2]
local abandoned_key = KEYS[3]
local reason = ARGV[1]
local code = ARGV[2]
local although_wanted = ARGV[3] == '1'
local client = ARGV[4]
local build_id = ARGV[5]
local now_ms = tonumber(ARGV[6])

if abandoned_key then
  -- Of a launch that has joined, there is no time left; of one that has left again, there is another.
  local stop_at_ms = redis.call('ZSCORE', abandoned_key, build_id)
  if not stop_at_ms or tonumber(stop_at_ms) > now_ms then return 0 end
end

-- Leave the build alone; it is not abandoned.
local function refuse()
  if abandoned_key then redis.call('ZREM', abandoned_key, build_id) end
  return 0
end

local record = redis.pcall('HMGET', record_key, 'epoch', 'final', 'detached')
if is_wrong_type(record) then return refuse() end  -- as if it were lost
local exists, is_final, wanted_by = record[1], record[2] == '1', record[3]
if not exists or is_final then return refuse() end
local is_anothers = wanted_by and (wanted_by == '1' or wanted_by ~= client)
local waiting = redis.pcall('SCARD', waiters_key)
if is_wrong_type(waiting) then waiting = abandoned_key and 0 or 1 end  -- an abandoned build had none
if not although_wanted and (is_anothers or waiting > 0) then return refuse() end
redis.call('HSET', record_key, 'cancel', reason, 'cancel_code', code)
return 1
