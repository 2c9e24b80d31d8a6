-- include services/launcher/seats/scripts/shared/seats.lua
-- Release seats and positions in the queue, and give the free seats to the launches that wait.
-- KEYS 1 to 5: see the include
-- ARGV 1 to 3: see the include
--      4 and later: servers
-- Answers how many of the servers had a seat or a position.
local first_server = 4

local released = 0
for i = first_server, #ARGV do
  local id = ARGV[i]
  local raw = redis.call('HGET', holders_key, id)
  if raw then
    redis.call('HDEL', holders_key, id)
    count_holder(parse(raw), -1)
  end
  local has_left_queue = leave_queue(id) > 0
  if has_left_queue or raw then released = released + 1 end
end

if released > 0 and redis.call('ZCARD', waiting_key) > 0 then
  has_moved = true
  admit()
end
return reply(released)
