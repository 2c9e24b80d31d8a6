-- include services/launcher/seats/scripts/shared/seats.lua
-- Give the free seats, and read the positions of servers.
-- KEYS 1 to 5: see the include
-- ARGV 1 to 3: see the include
--      4 and later: servers
-- Answers two numbers for each server: its position, or SEATED, NEVER or UNKNOWN; and what blocks it.
local first_server = 4

local positions, blocked_by = positions_of(admit())
local answer = {}
for i = first_server, #ARGV do
  local id = ARGV[i]
  local position = positions[id]
  if not position then
    position = redis.call('HEXISTS', holders_key, id) == 1 and SEATED or UNKNOWN
  end
  answer[#answer + 1] = position
  answer[#answer + 1] = blocked_by[id] or ADMISSIBLE
end
return reply(answer)
