-- Remove a launch from those that wait for a build. A build that no launch waits for may be marked as abandoned, to be
-- stopped after a grace period.
-- KEYS 1 record
--      2 launches that wait for the build
--      3 abandoned builds, with the time to stop them
-- ARGV 1 build id
--      2 launch ref
--      3 time to stop the build, in ms
--      4 '1' to mark the build
-- Answers 1 if the build was marked, else 0.
local record_key = KEYS[1]
local waiters_key = KEYS[2]
local abandoned_key = KEYS[3]
local build_id = ARGV[1]
local launch_ref = ARGV[2]
local stop_at_ms = ARGV[3]
local marks = ARGV[4] == '1'

redis.call('SREM', waiters_key, launch_ref)
local record = redis.call('HMGET', record_key, 'v', 'final', 'detached')
local may_stop = record[1] and record[2] ~= '1' and not record[3]
if marks and may_stop and redis.call('SCARD', waiters_key) == 0 then
  redis.call('ZADD', abandoned_key, stop_at_ms, build_id)
  return 1
end
return 0
