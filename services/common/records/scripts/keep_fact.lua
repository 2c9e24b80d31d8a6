-- Store a fact under one or more keys, except where it was deleted lately.
-- KEYS 1 policy
--      2 and more: the fact
-- ARGV 1 fact
--      2 its time to live in ms
--      3 tombstone: the value of a deleted fact
--      4 policy under which the fact holds; stored if none is
local policy_key = KEYS[1]
local fact = ARGV[1]
local ttl_ms = ARGV[2]
local tombstone = ARGV[3]
local policy = ARGV[4]

redis.call('SET', policy_key, policy, 'NX')
for i = 2, #KEYS do
  local fact_key = KEYS[i]
  if redis.call('GET', fact_key) ~= tombstone then redis.call('SET', fact_key, fact, 'PX', ttl_ms) end
end
return 1
