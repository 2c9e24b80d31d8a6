-- include services/common/streams/scripts/shared/queue.lua
-- reads only
-- How the queue stands: builds that wait, when the first of them was asked for, builds that have a slot, and each living
-- worker with its slots and the builds that it supervises.
-- KEYS waiting, running, slots   ARGV 1 key prefix
local waiting, oldest = redis.call('ZRANGE', KEYS[1], 0, -1), ''
for _, id in ipairs(waiting) do
  local queued = redis.call('HGET', ARGV[1] .. ':{b:' .. id .. '}:record', 'queued_ms')
  if queued and (oldest == '' or tonumber(queued) < tonumber(oldest)) then oldest = queued end
end
local dead = {}
living(KEYS[3], ARGV[1], function(process) dead[process] = true end)
local out = {#waiting, oldest, redis.call('HLEN', KEYS[2])}
local offered = redis.call('HGETALL', KEYS[3])
for i = 1, #offered, 2 do
  if not dead[offered[i]] then
    out[#out + 1] = offered[i]
    out[#out + 1] = tonumber(offered[i + 1])
    out[#out + 1] = redis.call('SCARD', ARGV[1] .. ':owned:' .. offered[i])
  end
end
return out
