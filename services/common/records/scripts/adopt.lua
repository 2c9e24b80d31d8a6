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
--      7 kind of records that the service owns
--      8 '1' if the process takes a suspect now
-- Answers {'none'}, {'claimed', name, epoch, fields}, or {'dropped', name} for an orphan that nobody can own: it is of
-- another kind, or its record is no hash.
--
-- The record counts its adoptions in a row that came to nothing: after each, the owner noted a failure, or died while the
-- adoption was on trial (see end_trial.lua). A record that was there at two such deaths is a suspect: it may be what
-- killed its owners, or only have been beside that.
local orphans_key = KEYS[1]
local owned_key = KEYS[2]
local lease_key = KEYS[3]
local process = ARGV[1]
local claim = ARGV[2]
local prefix = ARGV[3]
local wanted_name = ARGV[4]
local wanted_epoch = ARGV[5]
local is_repeated = ARGV[6] == '1'
local kind = ARGV[7]
local takes_suspects = ARGV[8] == '1'

local SUSPECT_ADOPTIONS = 3
local SAMPLE = 100

local function record_key(name) return prefix .. ':{' .. name .. '}:record' end

-- Without a lease, no sweep would find what this process leaves behind.
if redis.call('EXISTS', lease_key) == 0 then return {'none'} end

if is_repeated then
  for _, name in ipairs(call_owned('SMEMBERS', owned_key)) do
    local record = redis.pcall('HMGET', record_key(name), 'claim', 'epoch')
    if record[1] == claim then return {'claimed', name, record[2], redis.call('HGETALL', record_key(name))} end
  end
end

-- Return the number of adoptions in a row that came to nothing, with the one to come, and whether that is a suspect's.
local function count_adoptions(adoptions, is_on_trial, failure)
  if not failure and not is_on_trial then return 1, false end
  local count = (tonumber((adoptions or ''):match('^%d+$') or '') or 0) + 1
  return count, not failure and count >= SUSPECT_ADOPTIONS
end

while true do
  local names = wanted_name ~= '' and {wanted_name} or redis.call('SRANDMEMBER', orphans_key, SAMPLE)
  local left = 0

  for _, name in ipairs(names) do
    local is_ours = name:find(kind .. ':', 1, true) == 1
    local record = is_ours
      and redis.pcall('HMGET', record_key(name), 'epoch', 'owner', 'final', 'adoptions', 'on_trial', 'failure') or {}
    if record.err and not is_wrong_type(record) then return record end
    if not is_ours or record.err then
      redis.call('SREM', orphans_key, name)
      return {'dropped', name}
    end

    local epoch, owner, is_final = record[1], record[2], record[3] == '1'
    local adoptions, is_suspect = count_adoptions(record[4], record[5], record[6])
    if not epoch or owner ~= '' or is_final or (wanted_epoch ~= '' and wanted_epoch ~= epoch) then
      redis.call('SREM', orphans_key, name)
    elseif is_suspect and not takes_suspects then
      left = left + 1
    else
      call_owned('SADD', owned_key, name)
      redis.call('SREM', orphans_key, name)
      if wanted_epoch == '' then epoch = raise_epoch(record_key(name)) end
      redis.call('HSET', record_key(name), 'owner', process, 'claim', claim, 'adoptions', adoptions, 'on_trial', '1')
      local fields = redis.call('HGETALL', record_key(name))
      redis.call('HDEL', record_key(name), 'failure')
      return {'claimed', name, tostring(epoch), fields}
    end
  end

  if wanted_name ~= '' or left == #names then return {'none'} end
end
