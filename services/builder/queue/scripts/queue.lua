-- include services/common/streams/scripts/shared/queue.lua
-- reads only
-- Describe the queue.
-- KEYS 1 waiting builds
--      2 running builds, with their repositories
--      3 slots that each worker offers
-- ARGV 1 prefix of keys
-- Answers how many builds wait, when the first of them was requested (ms, '' if none waits), how many have a slot, and
-- for each living worker its name, its slots and the builds that it supervises.
local waiting_key = KEYS[1]
local running_key = KEYS[2]
local slots_key = KEYS[3]
local prefix = ARGV[1]

local waiting, oldest = redis.call('ZRANGE', waiting_key, 0, -1), ''
for _, id in ipairs(waiting) do
  local queued = (field_of(prefix, id, 'queued_ms') or ''):match('^%d+$')
  if queued and (oldest == '' or tonumber(queued) < tonumber(oldest)) then oldest = queued end
end

local dead = {}
living(slots_key, prefix, function(process) dead[process] = true end)
local reply = {#waiting, oldest, redis.call('HLEN', running_key)}
local offered = redis.call('HGETALL', slots_key)
for i = 1, #offered, 2 do
  local process, slots = offered[i], tonumber(offered[i + 1]) or 0
  if not dead[process] then
    reply[#reply + 1] = process
    reply[#reply + 1] = slots
    reply[#reply + 1] = redis.call('SCARD', prefix .. ':owned:' .. process)
  end
end
return reply
