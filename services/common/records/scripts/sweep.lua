-- Hold the sweep lease of a stage and name the dead.
-- KEYS sweep, processes   ARGV 1 process, 2 ttl in ms, 3 prefix of the alive keys
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {0} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local out = {1}
for _, process in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  if redis.call('EXISTS', ARGV[3] .. process) == 0 then out[#out + 1] = process end
end
return out
