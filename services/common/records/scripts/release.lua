-- Take everything from a process: raise the epochs, so that its writes are fenced, and offer the nouns to the living.
-- KEYS alive, processes, owned, orphans, sweep   ARGV 1 process, 2 '1' when it gives up by itself, 3 wake channel, 4 key prefix
if ARGV[2] ~= '1' and redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[1])
if redis.call('GET', KEYS[5]) == ARGV[1] then redis.call('DEL', KEYS[5]) end
local count = 0
for _, noun in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  local record = ARGV[4] .. ':{' .. noun .. '}:record'
  local now = redis.call('HMGET', record, 'owner', 'final')
  if now[1] == ARGV[1] and now[2] ~= '1' then
    redis.call('HINCRBY', record, 'epoch', 1)
    redis.call('HSET', record, 'owner', '', 'claim', '')
    redis.call('SADD', KEYS[4], noun)
    count = count + 1
  end
end
redis.call('DEL', KEYS[3])
if count > 0 then redis.call('PUBLISH', ARGV[3], 'orphans') end
return count
