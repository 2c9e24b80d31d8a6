-- include services/launcher/seats/scripts/shared/seats.lua
-- End a count: everything that runs is counted, so the free seats are given.
-- KEYS 1 to 5: see the include
-- ARGV 1 to 3: see the include
--      4 token of the count
-- Answers 1, or 0 if Redis was emptied since the count began.
local token = ARGV[4]

if redis.call('GET', counted_key) ~= token then return 0 end
redis.call('SET', counted_key, 'yes')
is_counted = true
has_moved = true
admit()
return reply(1)
