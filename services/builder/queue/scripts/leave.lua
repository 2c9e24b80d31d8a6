-- A launch stops waiting for a build. One that nobody waits for any more is noted, to be stopped after a grace.
-- KEYS record, waiters, abandoned   ARGV 1 build id, 2 launch ref, 3 time to stop in ms, 4 '1' to note it
redis.call('SREM', KEYS[2], ARGV[2])
local now = redis.call('HMGET', KEYS[1], 'v', 'final', 'detached')
local may_stop = now[1] and now[2] ~= '1' and not now[3]
if ARGV[4] == '1' and may_stop and redis.call('SCARD', KEYS[2]) == 0 then
  redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
  return 1
end
return 0
