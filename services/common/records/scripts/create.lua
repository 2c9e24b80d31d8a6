-- Create a noun and claim it in one step; a noun that exists already is returned as it is.
-- Asked again with the same claim, it answers as the first time.
-- KEYS record, events, owned, alive, processes (of the owner), idempotency (where there is one)
-- ARGV 1 noun, 2 owner, 3 claim, 4 channel, 5 idempotency value, 6 its ttl in ms, 7 n of fields, name, value ..., lines, payload
local now = redis.call('HMGET', KEYS[1], 'claim', 'last')
if now[1] == ARGV[3] then return {'created', now[2]} end
if KEYS[6] then
  local known = redis.call('GET', KEYS[6])
  if known then return {'known', known} end
end
if redis.call('EXISTS', KEYS[1]) == 1 then return {'exists', redis.call('HGETALL', KEYS[1])} end
local set = {'v', '1', 'epoch', '1', 'claim', ARGV[3], 'owner', ARGV[2], 'seq', '1'}
local fields = tonumber(ARGV[7])
for i = 1, fields * 2 do set[#set + 1] = ARGV[7 + i] end
redis.call('HSET', KEYS[1], unpack(set))
local at = 7 + fields * 2
local payload = ARGV[at + 2]
local id = redis.call('XADD', KEYS[2], '*', 'n', '1', 'l', '0', 'b', '0', 'd', payload)
redis.call('HSET', KEYS[1], 'last', id, 'lines', ARGV[at + 1], 'bytes', #payload, 'live', #payload)
redis.call('PUBLISH', ARGV[4], table.concat({'0-0', id, '1', '0', '0', payload}, ' '))
redis.call('SADD', KEYS[3], ARGV[1])
-- An owner whose lease has run out, which it may not know yet, must be found by the sweep.
if redis.call('EXISTS', KEYS[4]) == 0 then redis.call('SADD', KEYS[5], ARGV[2]) end
if KEYS[6] then redis.call('SET', KEYS[6], ARGV[5], 'PX', ARGV[6]) end
return {'created', id}
