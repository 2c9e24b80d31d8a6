-- include services/common/records/scripts/shared/ownership.lua
-- Create a record with its first event, and claim it. Repeated with the same claim, it answers as the first time.
-- KEYS 1 record
--      2 its events, a stream
--      3 records that the owner owns
--      4 lease of the owner
--      5 processes of the owner's service
--      6 idempotency key, if there is one
-- ARGV 1 name of the record
--      2 owner
--      3 claim: a random word
--      4 channel of the record's events
--      5 value to keep with the idempotency key
--      6 its time to live in ms
--      7 number of fields; then a name and a value for each, the number of events, and their payload
-- An entry of the stream has: n number of the write that appended it, l events before it, b bytes before it, d payload.
-- Answers {'created', position}, {'known', value of the idempotency key}, {'exists', fields}, or {'no lease', owner} if
-- the owner was taken for dead, or Redis was emptied: it must take its lease again first.
local record_key = KEYS[1]
local events_key = KEYS[2]
local owned_key = KEYS[3]
local lease_key = KEYS[4]
local processes_key = KEYS[5]
local idempotency_key = KEYS[6]
local name = ARGV[1]
local owner = ARGV[2]
local claim = ARGV[3]
local channel = ARGV[4]
local idempotency_value = ARGV[5]
local idempotency_ttl_ms = ARGV[6]
local field_count = tonumber(ARGV[7])
local fields_at = 7
local event_count = ARGV[fields_at + field_count * 2 + 1]
local payload = ARGV[fields_at + field_count * 2 + 2]

local record = redis.call('HMGET', record_key, 'claim', 'last')
if record[1] == claim then return {'created', record[2]} end
if idempotency_key then
  local value = redis.call('GET', idempotency_key)
  if value then return {'known', value} end
end
if redis.call('EXISTS', record_key) == 1 then return {'exists', redis.call('HGETALL', record_key)} end

-- The sweep would not find a record of an owner that has no lease and is not listed as a process.
if redis.call('EXISTS', lease_key) == 0 and redis.call('SISMEMBER', processes_key, owner) == 0 then
  return {'no lease', owner}
end

local set = {'v', '1', 'epoch', '1', 'claim', claim, 'owner', owner, 'seq', '1'}
for i = 1, field_count * 2 do set[#set + 1] = ARGV[fields_at + i] end
redis.call('HSET', record_key, unpack(set))

local position = redis.call('XADD', events_key, '*', 'n', '1', 'l', '0', 'b', '0', 'd', payload)
redis.call('HSET', record_key, 'last', position, 'lines', event_count, 'bytes', #payload, 'live', #payload)
redis.call('PUBLISH', channel, table.concat({'0-0', position, '1', '0', '0', payload}, ' '))

call_owned('SADD', owned_key, name)
if idempotency_key then redis.call('SET', idempotency_key, idempotency_value, 'PX', idempotency_ttl_ms) end
return {'created', position}
