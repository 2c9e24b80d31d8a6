-- include services/launcher/seats/scripts/shared/seats.lua
-- Take a seat, or a position in the queue. A server that has either keeps it.
-- KEYS 1 to 5: see the include
-- ARGV 1 to 3: see the include
--      4 server
--      5 time of its request, in ms
--      6 holder
-- Answers three numbers: the position, or SEATED, NEVER or FULL; what blocks the launch; 1 if it had its seat or its
-- position before.
local id = ARGV[4]
local requested_at = ARGV[5]
local holder = parse(ARGV[6])

if redis.call('HEXISTS', holders_key, id) == 1 then return {SEATED, ADMISSIBLE, 1} end

local is_new = not redis.call('ZSCORE', waiting_key, id)
local was_waiting = is_new and 0 or 1
if is_new and can_never_sit(holder) then return {NEVER, ADMISSIBLE, 0} end

-- Nobody else waits and there is room: no need for the order of the queue.
local others = redis.call('ZCARD', waiting_key) - was_waiting
if others == 0 and is_count_known(holder) and is_within_quota(holder) and holder.cost <= free_seats() then
  if not is_new then leave_queue(id) end
  seat(id, holder)
  return {SEATED, ADMISSIBLE, was_waiting}
end

if is_new then
  redis.call('ZADD', waiting_key, requested_at, id)
  redis.call('HSET', requests_key, id, holder.raw)
end
local still_waiting = admit()
local positions, blocked_by = positions_of(still_waiting)
local position = positions[id] or SEATED

-- Even if none may wait, a launch may wait for the count, which is known in a moment.
local has_no_room = room >= 0 and #still_waiting > room and (is_counted or room > 0)
if is_new and position ~= SEATED and has_no_room then
  leave_queue(id)
  return reply({FULL, ADMISSIBLE, 0})
end

has_moved = has_moved or (is_new and position > 0 and position < #still_waiting)  -- it moved those behind it back
return reply({position, blocked_by[id] or ADMISSIBLE, was_waiting})
