-- Take a seat, or a place in the queue for one.
-- KEYS members, waiting   ARGV 1 server id, 2 total (-1: no limit), 3 now in ms, 4 what to keep of the member,
-- 5 wake channel: those behind it move up
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return {1, 0} end
local total = tonumber(ARGV[2])
local free = total < 0 and 1 or total - redis.call('HLEN', KEYS[1])
local rank = redis.call('ZRANK', KEYS[2], ARGV[1])
local ahead = rank or redis.call('ZCARD', KEYS[2])
if free > 0 and (total < 0 or ahead < free) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
  if redis.call('ZREM', KEYS[2], ARGV[1]) == 1 then redis.call('PUBLISH', ARGV[5], 'seat') end
  return {1, 0}
end
if not rank then redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1]) end
return {0, ahead + 1}
