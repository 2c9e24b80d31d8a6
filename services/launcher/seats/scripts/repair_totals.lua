-- include services/launcher/seats/scripts/shared/seats.lua
-- Recompute the totals in `held` from the holders, and give the free seats.
-- KEYS 1 to 5: see the include
-- ARGV 1 to 3: see the include
-- Answers 1 if a total was wrong, else 0.
local stored = {}
local all = redis.call('HGETALL', held_key)
for i = 1, #all, 2 do stored[all[i]] = whole(all[i + 1]) or false end

local right = {}
for _, raw in ipairs(redis.call('HVALS', holders_key)) do
  local holder = parse(raw)
  for name, by in pairs({total = holder.cost, ['u:' .. holder.repo] = holder.cost, ['n:' .. holder.repo] = 1}) do
    right[name] = (right[name] or 0) + by
  end
end

local was_wrong = 0
for name, value in pairs(right) do
  if stored[name] ~= value then
    redis.call('HSET', held_key, name, value)
    was_wrong = 1
  end
end
for name in pairs(stored) do
  if not right[name] then
    redis.call('HDEL', held_key, name)
    was_wrong = 1
  end
end

admit()
return reply(was_wrong)
