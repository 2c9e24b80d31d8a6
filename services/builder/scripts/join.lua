-- Count a launch among those that wait for a build, unless the build has ended: nobody would forget it again.
-- Without a launch the build is wanted for itself, and goes on whoever leaves it.
-- KEYS record, waiters, abandoned   ARGV 1 build id, 2 launch ref
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('HGET', KEYS[1], 'final') == '1' then return 0 end
if ARGV[2] == '' then redis.call('HSET', KEYS[1], 'detached', '1') else redis.call('SADD', KEYS[2], ARGV[2]) end
redis.call('ZREM', KEYS[3], ARGV[1])
return 1
