-- include services/launcher/seats/scripts/shared/seats.lua
-- Check whether a launch would get a seat or a position in the queue. It takes neither.
-- KEYS 1 to 5: see the include
-- ARGV 1 to 3: see the include
--      4 holder
-- Answers 0 if it would, else NEVER or FULL.
local holder = parse(ARGV[4])

if can_never_sit(holder) then return NEVER end
local may_wait = room < 0 or redis.call('ZCARD', waiting_key) < room or (room == 0 and not is_counted)
if may_wait then return 0 end

local first = queue()[1]
local is_next = not first or first.blocked_by ~= ADMISSIBLE
if is_next and is_count_known(holder) and holder.cost <= free_seats() and is_within_quota(holder) then return 0 end
return FULL
