-- End a build that is still queued: cancelled, or given up because it waited too long.
-- KEYS record, events, waiting, running, version, waiters, unstored, orphans
-- ARGV 1 build id, 2 state, 3 body, 4 payload, 5 channel, 6 record ttl in ms, 7 stream ttl in ms
local now = redis.call('HMGET', KEYS[1], 'owner', 'final', 'epoch', 'seq', 'last', 'lines', 'bytes', 'state')
if not now[3] or now[2] == '1' or now[1] ~= '' or now[8] ~= 'queued' then return 0 end
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
local n = tonumber(now[4]) + 1
local id = redis.call('XADD', KEYS[2], '*', 'n', n, 'l', now[6], 'b', now[7], 'd', ARGV[4])
redis.call('PUBLISH', ARGV[5], table.concat({now[5], id, n, now[6], now[7], ARGV[4]}, ' '))
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'body', ARGV[3], 'final', '1', 'seq', n, 'last', id)
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('PEXPIRE', KEYS[2], ARGV[7])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
redis.call('DEL', KEYS[6])
redis.call('SADD', KEYS[7], ARGV[1])
redis.call('SREM', KEYS[8], 'b:' .. ARGV[1])
redis.call('PUBLISH', KEYS[5], redis.call('INCR', KEYS[5]))
return 1
