-- Raise the epoch of a build that nobody owns, so that its next job is another to arq.
-- KEYS record   ARGV 1 the epoch that it must have
local now = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'final')
if now[1] ~= '' or now[2] ~= ARGV[1] or now[3] == '1' then return 0 end
return redis.call('HINCRBY', KEYS[1], 'epoch', 1)
