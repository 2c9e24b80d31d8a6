-- Store a live policy and the id of the rules that follow from it, unless Redis has a newer policy.
-- Of two changes of the same version the first wins: the second is not newer than what is there. A resolver with an old
-- policy stores nothing, not even the id of its rules, under which cached links would count again.
-- KEYS 1 policy: its version, a space, and the rest
--      2 id of the rules that are in force
--      3 audit log, newest first
-- ARGV 1 version of the policy; 0: none was ever stored
--      2 policy
--      3 id of the rules that follow from it; empty: they follow from nothing that can be read
--      4 entry of the audit log for a change; empty: it is stored already, or what is there was lost
--      5 longest length of the audit log
--      6 channel that carries the version of each new policy
-- Answers whether the policy is in force now, and the policy that was there before (nil: none).
local policy_key, id_key, audit_key = KEYS[1], KEYS[2], KEYS[3]
local version, policy, id, entry, audit_max, channel = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]

local stored = redis.call('GET', policy_key)
local stored_version = tonumber(string.match(stored or '', '^(%d+) ')) or 0
local is_change = entry ~= ''
local is_unreadable = stored and stored_version == 0
if stored_version > version or (is_change and stored_version == version) or (is_unreadable and version == 0) then
  return {0, stored}
end

if stored_version < version then
  redis.call('SET', policy_key, policy)
  redis.call('PUBLISH', channel, ARGV[1])
end
if id ~= '' then redis.call('SET', id_key, id) end
if is_change then
  redis.call('LPUSH', audit_key, entry)
  redis.call('LTRIM', audit_key, 0, audit_max - 1)
end
return {1, stored}
