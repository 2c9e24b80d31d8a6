-- Ask for a build to be stopped, unless somebody waits for it: a launch, or another who wants the build for itself.
-- KEYS record, waiters   ARGV 1 reason, 2 error code, 3 '1' to do so although somebody waits, 4 who asks
local now = redis.call('HMGET', KEYS[1], 'epoch', 'final', 'detached')
if not now[1] or now[2] == '1' then return 0 end
local is_others = now[3] and (now[3] == '1' or now[3] ~= ARGV[4])
if ARGV[3] ~= '1' and (is_others or redis.call('SCARD', KEYS[2]) > 0) then return 0 end
redis.call('HSET', KEYS[1], 'cancel', ARGV[1], 'cancel_code', ARGV[2])
return 1
