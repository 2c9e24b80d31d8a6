-- Keep a fact, unless it was deleted just now.
-- KEYS the key of its policy, then where it is kept   ARGV 1 fact, 2 ttl in ms, 3 tombstone, 4 its policy
redis.call('SET', KEYS[1], ARGV[4], 'NX')
for i = 2, #KEYS do
  if redis.call('GET', KEYS[i]) ~= ARGV[3] then redis.call('SET', KEYS[i], ARGV[1], 'PX', ARGV[2]) end
end
return 1
