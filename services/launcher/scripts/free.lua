-- Give a seat back, or a place in the queue; wakes those who wait.
-- KEYS members, waiting   ARGV 1 server id, 2 wake channel
local freed = redis.call('HDEL', KEYS[1], ARGV[1]) + redis.call('ZREM', KEYS[2], ARGV[1])
if freed > 0 then redis.call('PUBLISH', ARGV[2], 'seat') end
return freed
