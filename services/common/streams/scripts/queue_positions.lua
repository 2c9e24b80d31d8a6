-- include services/common/streams/scripts/shared/queue.lua
-- reads only
-- Predict the positions of waiting builds: a position is 1 + the builds that get a slot before, if running builds end
-- in the order in which they were admitted. If no worker lives, or none may have a build, one slot is assumed.
-- KEYS 1 waiting builds
--      2 running builds, with their repositories
--      3 version of the queue
--      4 slots that each worker offers
--      5 limits that were last used
-- ARGV 1 prefix of keys
--      2 and more: build ids
-- Answers the version of the queue, its length, the limit for a repository, and for each build its position (0 if it
-- waits for no slot) and what it waits for: 'slot', 'repo' (the limit), 'worker' (that one lives), or 'start' if it
-- gets a slot in a moment.
local waiting_key = KEYS[1]
local running_key = KEYS[2]
local version_key = KEYS[3]
local slots_key = KEYS[4]
local limits_key = KEYS[5]
local prefix = ARGV[1]
local first_id_at = 2

local ids = redis.call('ZRANGE', waiting_key, 0, -1)
local slots, workers = living(slots_key, prefix)
local limits = redis.call('HMGET', limits_key, 'capacity', 'repo_cap')
local capacity = math.max(1, math.min(tonumber(limits[1] or '') or slots, slots))
local running_builds = redis.call('HGETALL', running_key)
local repo_cap = tonumber(limits[2] or '') or #ids + #running_builds

-- The running builds, in the order in which they were admitted.
local admitted = {}
for i = 1, #running_builds, 2 do
  local id, repo = running_builds[i], running_builds[i + 1]
  admitted[#admitted + 1] = {id = id, repo = repo, at = tonumber(field_of(prefix, id, 'admitted') or '') or 0}
end
table.sort(admitted, function(a, b) return a.at < b.at or (a.at == b.at and a.id < b.id) end)
local running = {}  -- repositories, in that order; those that get a slot are appended
local running_by_repo = {}  -- how many builds of each repository run, as the prediction goes on
for at, build in ipairs(admitted) do
  running[at] = build.repo
  running_by_repo[build.repo] = (running_by_repo[build.repo] or 0) + 1
end
local running_now = {}
for repo, count in pairs(running_by_repo) do running_now[repo] = count end

local repos = {}  -- of the waiting builds that were looked at
local queue = build_queue(ids, running_by_repo, repo_cap, function(id)
  repos[id] = field_of(prefix, id, 'repo_url')
  return repos[id]
end)

-- Let builds start and end until every position that was asked for is known.
local wanted, missing = {}, 0
for i = first_id_at, #ARGV do
  if redis.call('ZSCORE', waiting_key, ARGV[i]) then
    wanted[ARGV[i]] = true
    missing = missing + 1
  end
end
local positions, starts_at_once = {}, {}
local free, first, position = capacity - #running, 1, 0
while missing > 0 do
  local index, repo
  if free > 0 then index, repo = queue.next() end
  if index then
    position, free = position + 1, free - 1
    running[#running + 1] = repo
    positions[ids[index]] = position
    starts_at_once[ids[index]] = first == 1  -- before any running build has ended
    if wanted[ids[index]] then missing = missing - 1 end
  elseif first <= #running then
    queue.free_slot(running[first])
    first, free = first + 1, free + 1
  else
    break
  end
end

local reply = {redis.call('GET', version_key) or '0', #ids, repo_cap}
for i = first_id_at, #ARGV do
  local id = ARGV[i]
  local waits_for = 'slot'
  if workers == 0 then
    waits_for = 'worker'
  elseif starts_at_once[id] then
    waits_for = 'start'
  elseif repos[id] and (running_now[repos[id]] or 0) >= repo_cap then
    waits_for = 'repo'
  end
  reply[#reply + 1] = positions[id] or 0
  reply[#reply + 1] = waits_for
end
return reply
