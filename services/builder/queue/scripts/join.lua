-- Count a launch among those that wait for a build, unless the build has ended: nobody would forget it again.
-- Without a launch the build is wanted for itself, and goes on whoever leaves it. Its record says by whom: '1' where
-- that is not known, or where there are several.
-- KEYS record, waiters, abandoned   ARGV 1 build id, 2 launch ref, 3 who wants the build for itself
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('HGET', KEYS[1], 'final') == '1' then return 0 end
if ARGV[2] ~= '' then
  redis.call('SADD', KEYS[2], ARGV[2])
elseif (redis.call('HGET', KEYS[1], 'detached') or ARGV[3]) == ARGV[3] and ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'detached', ARGV[3])
else
  redis.call('HSET', KEYS[1], 'detached', '1')
end
redis.call('ZREM', KEYS[3], ARGV[1])
return 1
