-- A build has ended: its slot is free, nobody waits for it, its log is to be stored.
-- KEYS running, waiters, unstored, waiting, repos, version, abandoned   ARGV 1 build id, 2 wake channel
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2])
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[7], ARGV[1])
redis.call('PUBLISH', KEYS[6], redis.call('INCR', KEYS[6]))
if redis.call('ZCARD', KEYS[4]) == 0 and redis.call('HLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[5]) end
redis.call('PUBLISH', ARGV[2], 'slot')
return 1
