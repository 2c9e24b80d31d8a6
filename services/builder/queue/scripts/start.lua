-- include services/common/streams/scripts/shared/queue.lua
-- include services/builder/queue/scripts/shared/credentials.lua
-- Begin attempt n+1 at an image, only while attempt n is the current one and has ended; join a live attempt instead.
-- KEYS 1 number of the image's current attempt
--      2 waiting builds
--      3 virtual time of each repository
--      4 version of the queue, also the channel that carries it
-- ARGV 1 n that the caller expects
--      2 n if Redis has none
--      3 prefix of keys
--      4 image key
--      5 body of the record
--      6 payload of the first event
--      7 canonical URL of the repository
--      8 launch ref, '' for an API client
--      9 most builds that may wait
--     10 time to live of the attempt's number in ms
--     11 time now in ms
--     12 resolved repository
--     13 channel that wakes the builders
--     14 id of the request
--     15 API client that wants the build for itself, '' for a launch
--     16 id of a credential for the repository, '' without one
-- An entry of the stream has: n number of the write that appended it, l events before it, b bytes before it, d payload.
-- Answers a word and the number of the attempt: 'started', 'live' (joined), 'moved' (n is another) or 'full'.
local attempt_key = KEYS[1]
local waiting_key = KEYS[2]
local repos_key = KEYS[3]
local version_key = KEYS[4]
local expected_n = tonumber(ARGV[1])
local lowest_n = ARGV[2]
local prefix = ARGV[3]
local image_key = ARGV[4]
local body = ARGV[5]
local payload = ARGV[6]
local repo_url = ARGV[7]
local launch_ref = ARGV[8]
local waiting_max = tonumber(ARGV[9])
local attempt_ttl_ms = ARGV[10]
local now_ms = ARGV[11]
local resolved_repo = ARGV[12]
local wake_channel = ARGV[13]
local request_id = ARGV[14]
local client = ARGV[15]
local credential = ARGV[16]

local n = tonumber(redis.call('GET', attempt_key) or lowest_n)
local function key(number, rest) return prefix .. ':{b:' .. image_key .. '-' .. number .. '}:' .. rest end

local current = redis.call('HMGET', key(n, 'record'), 'state', 'final')
if current[1] and current[2] ~= '1' then
  if launch_ref ~= '' then redis.call('SADD', key(n, 'waiters'), launch_ref) end
  add_credential(key(n, 'record'), credential)
  return {'live', tostring(n)}
end
if n ~= expected_n then return {'moved', tostring(n)} end
if redis.call('ZCARD', waiting_key) >= waiting_max then return {'full', tostring(n)} end

n = n + 1
redis.call('SET', attempt_key, n, 'PX', attempt_ttl_ms)
local position = redis.call('XADD', key(n, 'events'), '*', 'n', '1', 'l', '0', 'b', '0', 'd', payload)
redis.call('HSET', key(n, 'record'), 'v', '1', 'epoch', '0', 'claim', '', 'owner', '', 'seq', '1', 'state', 'queued',
  'body', body, 'repo_url', repo_url, 'repo', resolved_repo, 'queued_ms', now_ms, 'last', position, 'lines', '1',
  'bytes', #payload, 'live', #payload, 'request_id', request_id, 'launch_ref', launch_ref)
if launch_ref ~= '' then redis.call('SADD', key(n, 'waiters'), launch_ref) end
if client ~= '' then redis.call('HSET', key(n, 'record'), 'detached', client) end
add_credential(key(n, 'record'), credential)

-- Start-time fair queueing: a repository's next build starts after its last one, and none before the virtual now.
local virtual_now = tonumber(redis.call('HGET', repos_key, ':now') or '') or 0
local repo_start = tonumber(redis.call('HGET', repos_key, repo_url) or '') or 0
local virtual = math.max(virtual_now, repo_start)
redis.call('HSET', repos_key, repo_url, virtual + 1)
local arrival = next_number(repos_key, ':arrivals') % 1000000
redis.call('ZADD', waiting_key, virtual + arrival / 10000000, image_key .. '-' .. n)
redis.call('PUBLISH', version_key, redis.call('INCR', version_key))
redis.call('PUBLISH', wake_channel, 'queued')
return {'started', tostring(n)}
