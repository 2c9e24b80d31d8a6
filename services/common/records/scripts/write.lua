-- Write to a noun as its owner: compare epoch, claim and sequence number, change fields, append entries, notify.
-- Answers 'behind' where Redis has lost writes that it had confirmed; the owner then writes again what was lost, under
-- the positions that it had.
-- KEYS record, events, owned
-- ARGV 1 epoch, 2 claim, 3 seq, 4 channel, 5 noun, 6 owner, 7 '1' to restore what is lost (a missing record included),
--      8 final ttl in ms ('' while live, 'release' to let go), 9 ceiling of the stream in bytes, 10 last confirmed seq,
--      11 lines before the first entry (as the owner counts), 12 n of fields, name, value ...,
--      n of entries, seq, position ('*' for a new one), lines, payload ...
local epoch, claim, seq = ARGV[1], ARGV[2], tonumber(ARGV[3])
local restores = ARGV[7] == '1'
local now = redis.call('HMGET', KEYS[1], 'epoch', 'claim', 'seq', 'last', 'lines', 'bytes', 'final', 'live', 'head')
if not now[1] then
  if not restores then return {'missing', '', 0} end
  redis.call('HSET', KEYS[1], 'v', '1', 'epoch', epoch, 'claim', claim, 'owner', ARGV[6])
  redis.call('SADD', KEYS[3], ARGV[5])
  now = {epoch, claim, false, false, false, false, false, false, false}
end
if now[1] ~= epoch or now[2] ~= claim then return {'fenced', now[1], 0} end
local before = tonumber(now[3] or '0')
local last = now[4] or '0-0'
if before >= seq then return {'ok', last, before} end
if now[7] == '1' then return {'final', last, before} end
if before < tonumber(ARGV[10]) and not restores then return {'behind', last, before} end

local at = 12
local fields = tonumber(ARGV[at])
local set = {'seq', ARGV[3]}
for i = 1, fields * 2 do set[#set + 1] = ARGV[at + i] end
at = at + fields * 2 + 1

local lines, bytes, live = tonumber(ARGV[11]), tonumber(now[6] or '0'), tonumber(now[8] or '0')
local previous, from_line, from_byte = last, lines, bytes
local head = now[9]
local ceiling = tonumber(ARGV[9])
for i = 0, tonumber(ARGV[at]) - 1 do
  local number, position, count, payload = unpack(ARGV, at + i * 4 + 1, at + i * 4 + 4)
  previous, from_line, from_byte = last, lines, bytes
  local id = redis.pcall('XADD', KEYS[2], position, 'n', number, 'l', lines, 'b', bytes, 'd', payload)
  if type(id) == 'table' then id = redis.call('XADD', KEYS[2], '*', 'n', number, 'l', lines, 'b', bytes, 'd', payload) end
  redis.call('PUBLISH', ARGV[4], table.concat({last, id, number, lines, bytes, payload}, ' '))
  last = id
  lines, bytes, live = lines + tonumber(count), bytes + #payload, live + #payload
  if not head and live > ceiling / 2 then
    head = id
    set[#set + 1] = 'head'
    set[#set + 1] = id
  end
  while head and live > ceiling do  -- keep head and tail; readers see the jump in 'l' and 'b'
    local oldest = redis.call('XRANGE', KEYS[2], '(' .. head, '+', 'COUNT', 1)[1]
    if not oldest or oldest[1] == id then break end
    live = live - #oldest[2][8]
    redis.call('XDEL', KEYS[2], oldest[1])
  end
end
for _, pair in ipairs({{'last', last}, {'lines', lines}, {'bytes', bytes}, {'live', live}}) do
  set[#set + 1] = pair[1]
  set[#set + 1] = pair[2]
end
redis.call('HSET', KEYS[1], unpack(set))
if ARGV[8] == 'release' then
  redis.call('HSET', KEYS[1], 'owner', '')
  redis.call('SREM', KEYS[3], ARGV[5])
elseif ARGV[8] ~= '' then
  redis.call('HSET', KEYS[1], 'final', '1', 'owner', '')
  redis.call('SREM', KEYS[3], ARGV[5])
  redis.call('PEXPIRE', KEYS[1], ARGV[8])
  redis.call('PEXPIRE', KEYS[2], ARGV[8])
end
return {'ok', last, before, previous, tostring(from_line), tostring(from_byte)}
