-- include services/common/records/scripts/shared/ownership.lua
-- End a build that is still queued: it was cancelled, or it has waited too long.
-- KEYS 1 record
--      2 its events, a stream
--      3 waiting builds
--      4 running builds, with their repositories
--      5 version of the queue, also the channel that carries it
--      6 launches that wait for the build
--      7 builds whose log is not stored yet
--      8 orphans of the builders
--      9 abandoned builds
-- ARGV 1 build id
--      2 state
--      3 body of the record
--      4 payload of the terminal event
--      5 channel of the build's events
--      6 time to live of the record in ms
--      7 time to live of the events in ms
-- An entry of the stream has: n number of the write that appended it, l events before it, b bytes before it, d payload.
-- Answers 1, or 0 if the build is not queued, or has an owner.
local record_key = KEYS[1]
local events_key = KEYS[2]
local waiting_key = KEYS[3]
local running_key = KEYS[4]
local version_key = KEYS[5]
local waiters_key = KEYS[6]
local unstored_key = KEYS[7]
local orphans_key = KEYS[8]
local abandoned_key = KEYS[9]
local build_id = ARGV[1]
local state = ARGV[2]
local body = ARGV[3]
local payload = ARGV[4]
local channel = ARGV[5]
local record_ttl_ms = ARGV[6]
local events_ttl_ms = ARGV[7]

local record = redis.call('HMGET', record_key, 'owner', 'final', 'epoch', 'seq', 'last', 'lines', 'bytes', 'state')
local owner, is_final, epoch, seq, last, lines, bytes = record[1], record[2] == '1', unpack(record, 3, 7)
if not epoch or is_final or owner ~= '' or record[8] ~= 'queued' then return 0 end

raise_epoch(record_key)
local number = (tonumber(seq or '') or 0) + 1
last, lines, bytes = last or '0-0', lines or '0', bytes or '0'
local function append() return redis.pcall('XADD', events_key, '*', 'n', number, 'l', lines, 'b', bytes, 'd', payload) end
local position = append()
if is_wrong_type(position) then
  redis.call('DEL', events_key)
  position = append()
end
if type(position) == 'table' then return position end
redis.call('PUBLISH', channel, table.concat({last, position, number, lines, bytes, payload}, ' '))
redis.call('HSET', record_key, 'state', state, 'body', body, 'final', '1', 'seq', number, 'last', position)
redis.call('PEXPIRE', record_key, record_ttl_ms)
redis.call('PEXPIRE', events_key, events_ttl_ms)

redis.call('ZREM', waiting_key, build_id)
redis.call('HDEL', running_key, build_id)
redis.call('DEL', waiters_key)
redis.call('SADD', unstored_key, build_id)
redis.call('SREM', orphans_key, 'b:' .. build_id)
redis.call('ZREM', abandoned_key, build_id)
redis.call('PUBLISH', version_key, redis.call('INCR', version_key))
return 1
