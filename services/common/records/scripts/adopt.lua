-- include services/common/records/scripts/shared/ownership.lua
-- Claim one orphan of a service, or the record that is named. Each claim of an orphan raises the record's epoch.
-- KEYS 1 orphans of the service
--      2 records that the process owns
--      3 lease of the process
-- ARGV 1 process
--      2 claim: a random word
--      3 prefix of keys
--      4 name of the record, '' for any orphan
--      5 epoch that the record must have, and keeps; '' for any
--      6 '1' if the call is repeated after a lost reply
--      7 time now in ms
--      8 ms after its adoption within which an owner's death is put down to the record
--      9 kind of records that the service owns
-- Answers {'none'}, {'claimed', name, epoch, fields}, or {'dropped', name} for an orphan that nobody can own: it is of
-- another kind, or its record is no hash.
--
-- The record counts its adoptions in a row that came to nothing: after each, the owner noted a failure, or died soon.
local orphans_key = KEYS[1]
local owned_key = KEYS[2]
local lease_key = KEYS[3]
local process = ARGV[1]
local claim = ARGV[2]
local prefix = ARGV[3]
local wanted_name = ARGV[4]
local wanted_epoch = ARGV[5]
local is_repeated = ARGV[6] == '1'
local now_ms = tonumber(ARGV[7])
local soon_ms = tonumber(ARGV[8])
local kind = ARGV[9]

local function record_key(name) return prefix .. ':{' .. name .. '}:record' end

-- Without a lease, no sweep would find what this process leaves behind.
if redis.call('EXISTS', lease_key) == 0 then return {'none'} end

if is_repeated then
  for _, name in ipairs(call_owned('SMEMBERS', owned_key)) do
    local record = redis.pcall('HMGET', record_key(name), 'claim', 'epoch')
    if record[1] == claim then return {'claimed', name, record[2], redis.call('HGETALL', record_key(name))} end
  end
end

while true do
  local name = wanted_name
  if name == '' then
    name = redis.call('SRANDMEMBER', orphans_key)
    if not name then return {'none'} end
  end
  local is_ours = name:find(kind .. ':', 1, true) == 1
  local record = is_ours and redis.pcall('HMGET', record_key(name), 'epoch', 'owner', 'final') or {}
  if record.err and not is_wrong_type(record) then return record end
  if not is_ours or record.err then
    redis.call('SREM', orphans_key, name)
    return {'dropped', name}
  end

  local epoch, owner, is_final = record[1], record[2], record[3] == '1'
  if epoch and owner == '' and not is_final and (wanted_epoch == '' or wanted_epoch == epoch) then
    call_owned('SADD', owned_key, name)
    redis.call('SREM', orphans_key, name)
    if wanted_epoch == '' then epoch = raise_epoch(record_key(name)) end
    local last = redis.call('HMGET', record_key(name), 'adoptions', 'adopted_ms', 'failure')
    local adopted_ms = tonumber(last[2] or '')
    local was_in_vain = last[3] or (adopted_ms and now_ms - adopted_ms < soon_ms)
    local adoptions = was_in_vain and (tonumber((last[1] or ''):match('^%d+$') or '') or 0) + 1 or 1
    redis.call('HSET', record_key(name), 'owner', process, 'claim', claim, 'adoptions', adoptions, 'adopted_ms', now_ms)
    local fields = redis.call('HGETALL', record_key(name))
    redis.call('HDEL', record_key(name), 'failure')
    return {'claimed', name, tostring(epoch), fields}
  end

  redis.call('SREM', orphans_key, name)
  if wanted_name ~= '' then return {'none'} end
end
