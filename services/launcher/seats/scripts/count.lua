-- include services/launcher/seats/scripts/shared/seats.lua
-- Seat servers without asking whether there is room: they run, or are being started.
-- KEYS 1 to 5: see the include
-- ARGV 1 to 3: see the include
--      4 and later: server, holder, in turn
local first_server = 4

for i = first_server, #ARGV, 2 do
  local id = ARGV[i]
  local holder = parse(ARGV[i + 1])
  leave_queue(id)
  seat(id, holder)
end
return 0
