-- Free the slot of a build that has ended; its log is to be stored, and no launch waits for it any more.
-- KEYS 1 running builds, with their repositories
--      2 launches that wait for the build
--      3 builds whose log is not stored yet
--      4 waiting builds
--      5 virtual time of each repository
--      6 version of the queue, also the channel that carries it
--      7 abandoned builds
-- ARGV 1 build id
--      2 channel that wakes the builders
local running_key = KEYS[1]
local waiters_key = KEYS[2]
local unstored_key = KEYS[3]
local waiting_key = KEYS[4]
local repos_key = KEYS[5]
local version_key = KEYS[6]
local abandoned_key = KEYS[7]
local build_id = ARGV[1]
local wake_channel = ARGV[2]

redis.call('HDEL', running_key, build_id)
redis.call('DEL', waiters_key)
redis.call('SADD', unstored_key, build_id)
redis.call('ZREM', abandoned_key, build_id)
redis.call('PUBLISH', version_key, redis.call('INCR', version_key))
if redis.call('ZCARD', waiting_key) == 0 and redis.call('HLEN', running_key) == 0 then redis.call('DEL', repos_key) end
redis.call('PUBLISH', wake_channel, 'slot')
return 1
