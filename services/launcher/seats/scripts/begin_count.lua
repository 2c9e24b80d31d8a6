-- include services/launcher/seats/scripts/shared/seats.lua
-- Begin a count of what runs, unless the count is known or another launcher counts.
-- KEYS 1 to 5: see the include
-- ARGV 1 to 3: see the include
--      4 token of the new count
-- Answers `yes` if the count is known, else the token of the count under way.
local token = ARGV[4]

redis.call('SET', counted_key, token, 'NX')
return redis.call('GET', counted_key)
