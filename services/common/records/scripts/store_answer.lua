-- Cache an answer under one or more keys, except those where an answer was withdrawn lately.
-- KEYS 1 policy
--      2 and more: the answer
-- ARGV 1 answer
--      2 its time to live in ms
--      3 tombstone: the value of an answer that was withdrawn
--      4 policy under which the answer holds; stored if none is
local policy_key = KEYS[1]
local answer = ARGV[1]
local ttl_ms = ARGV[2]
local tombstone = ARGV[3]
local policy = ARGV[4]

redis.call('SET', policy_key, policy, 'NX')
for i = 2, #KEYS do
  local answer_key = KEYS[i]
  if redis.call('GET', answer_key) ~= tombstone then redis.call('SET', answer_key, answer, 'PX', ttl_ms) end
end
return 1
