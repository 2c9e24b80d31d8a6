-- include services/common/records/scripts/shared/ownership.lua
-- End a record on which no owner could work, without reading its body; whatever else it holds may be damaged, too.
-- KEYS 1 record
--      2 its events, a stream
--      3 records that the owner owns
-- ARGV 1 name of the record
--      2 claim of the owner
--      3 channel of the record's events
--      4 state
--      5 payload of the terminal event
--      6 time to live in ms
--      7 gap in the numbers of writes: Redis may have lost the last ones, which followers have seen
-- An entry of the stream has: n number of the write that appended it, l events before it, b bytes before it, d payload.
-- Answers 1, or 0 if another process owns the record by now. A repeated call answers as the first one.
local record_key = KEYS[1]
local events_key = KEYS[2]
local owned_key = KEYS[3]
local name = ARGV[1]
local claim = ARGV[2]
local channel = ARGV[3]
local state = ARGV[4]
local payload = ARGV[5]
local ttl_ms = ARGV[6]
local gap = tonumber(ARGV[7])

local record = redis.call('HMGET', record_key, 'claim', 'final', 'seq', 'last', 'lines', 'bytes')
if record[1] ~= claim then return 0 end
if record[2] == '1' then return 1 end

local function count(text) return tonumber(text or '') or 0 end
local number = count(record[3]) + gap
local last = record[4] or '0-0'
local lines = count(record[5])
local bytes = count(record[6])

local function append() return redis.pcall('XADD', events_key, '*', 'n', number, 'l', lines, 'b', bytes, 'd', payload) end
local position = append()
if type(position) == 'table' then  -- an error: that key holds no stream
  redis.call('DEL', events_key)
  position = append()
end
redis.call('PUBLISH', channel, table.concat({last, position, number, lines, bytes, payload}, ' '))

redis.call('HSET', record_key, 'state', state, 'final', '1', 'owner', '', 'seq', number, 'last', position,
  'lines', lines + 1, 'bytes', bytes + #payload)
call_owned('SREM', owned_key, name)
redis.call('PEXPIRE', record_key, ttl_ms)
redis.call('PEXPIRE', events_key, ttl_ms)
return 1
