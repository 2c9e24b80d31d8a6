-- Begin attempt n+1 at an image, only while n is current and final. Joins a live attempt instead.
-- KEYS attempt, waiting, repos, version
-- ARGV 1 n expected, 2 floor of n where none is recorded, 3 key prefix, 4 image key, 5 body, 6 payload, 7 canonical URL,
--      8 launch ref, 9 longest queue, 10 ttl of the attempt in ms, 11 now in ms, 12 resolved repository, 13 wake channel,
--      14 id of the request that asked, 15 who wants the build for itself ('' where a launch wants it)
local n = tonumber(redis.call('GET', KEYS[1]) or ARGV[2])
local function key(number, rest) return ARGV[3] .. ':{b:' .. ARGV[4] .. '-' .. number .. '}:' .. rest end
local now = redis.call('HMGET', key(n, 'record'), 'state', 'final')
if now[1] and now[2] ~= '1' then
  if ARGV[8] ~= '' then redis.call('SADD', key(n, 'waiters'), ARGV[8]) end
  return {'live', tostring(n)}
end
if n ~= tonumber(ARGV[1]) then return {'moved', tostring(n)} end
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[9]) then return {'full', tostring(n)} end
n = n + 1
redis.call('SET', KEYS[1], n, 'PX', ARGV[10])
local id = redis.call('XADD', key(n, 'events'), '*', 'n', '1', 'l', '0', 'b', '0', 'd', ARGV[6])
redis.call('HSET', key(n, 'record'), 'v', '1', 'epoch', '0', 'claim', '', 'owner', '', 'seq', '1', 'state', 'queued',
  'body', ARGV[5], 'repo_url', ARGV[7], 'repo', ARGV[12], 'queued_ms', ARGV[11], 'last', id, 'lines', '1',
  'bytes', #ARGV[6], 'live', #ARGV[6], 'request_id', ARGV[14], 'launch_ref', ARGV[8])
if ARGV[8] ~= '' then redis.call('SADD', key(n, 'waiters'), ARGV[8]) end
if ARGV[15] ~= '' then redis.call('HSET', key(n, 'record'), 'detached', ARGV[15]) end
-- Start-time fair queueing: a repository's next build starts after its last one, nobody's before the virtual now.
local virtual = math.max(tonumber(redis.call('HGET', KEYS[3], ':now') or '0'), tonumber(redis.call('HGET', KEYS[3], ARGV[7]) or '0'))
redis.call('HSET', KEYS[3], ARGV[7], virtual + 1)
local arrival = redis.call('HINCRBY', KEYS[3], ':arrivals', 1) % 1000000
redis.call('ZADD', KEYS[2], virtual + arrival / 10000000, ARGV[4] .. '-' .. n)
redis.call('PUBLISH', KEYS[4], redis.call('INCR', KEYS[4]))
redis.call('PUBLISH', ARGV[13], 'queued')
return {'started', tostring(n)}
