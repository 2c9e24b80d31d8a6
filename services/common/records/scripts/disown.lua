-- Offer one noun of a living process to all: nobody works on it there.
-- KEYS owned, orphans, record   ARGV 1 process, 2 noun, 3 wake channel
redis.call('SREM', KEYS[1], ARGV[2])
local now = redis.call('HMGET', KEYS[3], 'owner', 'final')
if now[1] ~= ARGV[1] or now[2] == '1' then return 0 end
redis.call('HINCRBY', KEYS[3], 'epoch', 1)
redis.call('HSET', KEYS[3], 'owner', '', 'claim', '')
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('PUBLISH', ARGV[3], 'orphan')
return 1
