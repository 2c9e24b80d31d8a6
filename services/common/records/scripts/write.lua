-- include services/common/records/scripts/shared/ownership.lua
-- Write to a record as its owner: compare epoch, claim and number, set fields, append entries, publish them.
-- KEYS 1 record
--      2 its events, a stream
--      3 records that the owner owns
--      4 lease of the owner
--      5 processes of the owner's service
-- ARGV 1 epoch of the owner
--      2 claim of the owner
--      3 seq: number of this write
--      4 channel of the record's events
--      5 name of the record
--      6 owner
--      7 '1' to restore what Redis has lost, a missing record included
--      8 ms that a final record is kept; 'release' to give up ownership, '' otherwise
--      9 most bytes of payload in the stream
--     10 seq of the owner's last confirmed write
--     11 events before the first entry, as the owner counts
--     12 number of fields; then a name and a value for each
--        then the number of entries, and for each: its seq, its position ('*' for a new one), its events, its payload
-- An entry of the stream has: n number of the write that appended it, l events before it, b bytes before it, d payload.
-- Answers {'ok', last position, seq before, position, events and bytes before the last entry}, or
--   'missing': there is no such record;
--   'fenced':  another process owns it, or did since;
--   'final':   it never changes again;
--   'behind':  Redis has lost writes that it had confirmed, or the adoption by this owner. Epochs only grow, so the owner
--              with the higher one is the later one; a claim that kept the epoch is lost if nobody owns the record, as
--              giving up a claim raises the epoch or leaves the claim. It writes them again, under the positions they had;
--   'no lease': to restore anything, the owner must take its lease again first, or no sweep would find the record.
local record_key = KEYS[1]
local events_key = KEYS[2]
local owned_key = KEYS[3]
local lease_key = KEYS[4]
local processes_key = KEYS[5]
local epoch = ARGV[1]
local claim = ARGV[2]
local seq_arg = ARGV[3]
local seq = tonumber(seq_arg)
local channel = ARGV[4]
local name = ARGV[5]
local owner = ARGV[6]
local restores = ARGV[7] == '1'
local until_arg = ARGV[8]
local max_bytes = tonumber(ARGV[9])
local confirmed_seq = tonumber(ARGV[10])
local lines = tonumber(ARGV[11])
local field_count = tonumber(ARGV[12])
local fields_at = 12
local entries_at = fields_at + field_count * 2 + 1
local entry_count = tonumber(ARGV[entries_at])

-- May this write be carried out?
local record = redis.call('HMGET', record_key, 'epoch', 'claim', 'seq', 'last', 'bytes', 'final', 'live', 'head', 'owner')
local is_missing = not record[1]
local is_earlier = (tonumber(record[1] or '') or 0) < tonumber(epoch)
local is_unclaimed = record[1] == epoch and record[2] ~= claim and record[9] == ''
local has_lost_owner = not is_missing and record[6] ~= '1' and (is_earlier or is_unclaimed)
if is_missing or has_lost_owner then
  if not restores then return {is_missing and 'missing' or 'behind', record[4] or '', tonumber(record[3] or '0')} end
  if redis.call('EXISTS', lease_key) == 0 and redis.call('SISMEMBER', processes_key, owner) == 0 then
    return {'no lease', owner, 0}
  end
  redis.call('HSET', record_key, 'v', '1', 'epoch', epoch, 'claim', claim, 'owner', owner)
  record[1], record[2] = epoch, claim
end
if record[1] ~= epoch or record[2] ~= claim then return {'fenced', record[1], 0} end

local seq_before = tonumber(record[3] or '0')
local last = record[4] or '0-0'
local bytes = tonumber(record[5] or '0')
local is_final = record[6] == '1'
local live = tonumber(record[7] or '0')
local head = record[8]
if seq_before >= seq then return {'ok', last, seq_before} end
if is_final then return {'final', last, seq_before} end
if seq_before < confirmed_seq and not restores then return {'behind', last, seq_before} end

call_owned(until_arg == '' and 'SADD' or 'SREM', owned_key, name)  -- each time, as that list may be lost alone
local set = {'seq', seq_arg}
for i = 1, field_count * 2 do set[#set + 1] = ARGV[fields_at + i] end

-- Append and publish the entries.
local previous, from_line, from_byte = last, lines, bytes
for i = 0, entry_count - 1 do
  local number, position, count, payload = unpack(ARGV, entries_at + i * 4 + 1, entries_at + i * 4 + 4)
  previous, from_line, from_byte = last, lines, bytes

  local id = redis.pcall('XADD', events_key, position, 'n', number, 'l', lines, 'b', bytes, 'd', payload)
  if type(id) == 'table' then  -- an error: the stream has gone past that position
    id = redis.call('XADD', events_key, '*', 'n', number, 'l', lines, 'b', bytes, 'd', payload)
  end
  redis.call('PUBLISH', channel, table.concat({last, id, number, lines, bytes, payload}, ' '))
  last = id
  lines, bytes, live = lines + tonumber(count), bytes + #payload, live + #payload

  -- Of a stream that is too long, keep the beginning and the end; readers see the gap in 'l' and 'b'.
  if not head and live > max_bytes / 2 then
    head = id
    set[#set + 1] = 'head'
    set[#set + 1] = id
  end
  while head and live > max_bytes do
    local oldest = redis.call('XRANGE', events_key, '(' .. head, '+', 'COUNT', 1)[1]
    if not oldest or oldest[1] == id then break end
    local oldest_payload = oldest[2][8]
    live = live - #oldest_payload
    redis.call('XDEL', events_key, oldest[1])
  end
end

for _, pair in ipairs({{'last', last}, {'lines', lines}, {'bytes', bytes}, {'live', live}}) do
  set[#set + 1] = pair[1]
  set[#set + 1] = pair[2]
end
redis.call('HSET', record_key, unpack(set))

if until_arg == 'release' then
  redis.call('HSET', record_key, 'owner', '')
elseif until_arg ~= '' then
  redis.call('HSET', record_key, 'final', '1', 'owner', '')
  redis.call('PEXPIRE', record_key, until_arg)
  redis.call('PEXPIRE', events_key, until_arg)
end
return {'ok', last, seq_before, previous, tostring(from_line), tostring(from_byte)}
