-- include services/common/streams/scripts/shared/queue.lua
-- reads only
-- The places of waiting builds: 1 + the builds that get a slot before, if those that run end in the order in which they
-- got theirs. With no living worker, or none that may have another, one slot at a time is reckoned with.
-- KEYS waiting, running, version, slots, limits   ARGV 1 key prefix, build id ...
-- Answers the queue's version, its length, the cap per repository, and for each build its place (0: it waits for no slot)
-- and what it waits for: 'slot', 'repo' (the cap), 'worker' (any that lives), or 'start' where it has a slot in a moment.
local ids, of, running, places, repos, at_once = redis.call('ZRANGE', KEYS[1], 0, -1), {}, {}, {}, {}, {}
local function field(id, name) return redis.call('HGET', ARGV[1] .. ':{b:' .. id .. '}:record', name) end
local slots, workers = living(KEYS[4], ARGV[1])
local limits = redis.call('HMGET', KEYS[5], 'capacity', 'repo_cap')
local capacity = math.max(1, math.min(tonumber(limits[1] or slots), slots))
local held = redis.call('HGETALL', KEYS[2])
local cap = tonumber(limits[2] or #ids + #held)

local begun = {}
for i = 1, #held, 2 do
  begun[#begun + 1] = {id = held[i], repo = held[i + 1], at = tonumber(field(held[i], 'admitted') or '0')}
end
table.sort(begun, function(a, b) return a.at < b.at or (a.at == b.at and a.id < b.id) end)
for at, build in ipairs(begun) do
  running[at] = build.repo
  of[build.repo] = (of[build.repo] or 0) + 1
end
local now = {}
for repo, count in pairs(of) do now[repo] = count end

local queue = queue_of(ids, of, cap, function(id)
  repos[id] = field(id, 'repo_url')
  return repos[id]
end)
local free, first, place, looked_for = capacity - #running, 1, 0, {}
local missing = 0
for i = 2, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) then looked_for[ARGV[i]], missing = true, missing + 1 end
end
while missing > 0 do
  local index, repo
  if free > 0 then index, repo = queue.next() end
  if index then
    place, free = place + 1, free - 1
    running[#running + 1] = repo
    places[ids[index]] = place
    at_once[ids[index]] = first == 1  -- before any that runs has ended
    if looked_for[ids[index]] then missing = missing - 1 end
  elseif first <= #running then
    queue.ended(running[first])
    first, free = first + 1, free + 1
  else
    break
  end
end

local out = {redis.call('GET', KEYS[3]) or '0', #ids, cap}
for i = 2, #ARGV do
  local id = ARGV[i]
  local waits_for = 'slot'
  if workers == 0 then
    waits_for = 'worker'
  elseif at_once[id] then
    waits_for = 'start'
  elseif repos[id] and (now[repos[id]] or 0) >= cap then
    waits_for = 'repo'
  end
  out[#out + 1] = places[id] or 0
  out[#out + 1] = waits_for
end
return out
