-- include services/common/streams/scripts/shared/queue.lua
-- include services/common/records/scripts/shared/ownership.lua
-- Give the free slots to waiting builds, in their order, within a limit for each repository.
-- KEYS 1 waiting builds
--      2 running builds, with their repositories
--      3 virtual time of each repository
--      4 version of the queue, also the channel that carries it
--      5 slots that each worker offers
--      6 limits that were last used
--      7 orphans of the builders
-- ARGV 1 capacity: most builds that may run
--      2 most builds of one repository that may run
--      3 prefix of keys
-- Answers the builds that were given a slot.
local waiting_key = KEYS[1]
local running_key = KEYS[2]
local repos_key = KEYS[3]
local version_key = KEYS[4]
local slots_key = KEYS[5]
local limits_key = KEYS[6]
local orphans_key = KEYS[7]
local capacity = ARGV[1]
local repo_cap = ARGV[2]
local prefix = ARGV[3]

local function record(id) return prefix .. ':{b:' .. id .. '}:record' end

-- A worker whose lease has run out may revive it, and offers what it offered before, until a sweeper has released it.
local processes_key = prefix .. ':processes:builder'
local slots = living(slots_key, prefix, function(process)
  if redis.call('SISMEMBER', processes_key, process) == 0 then redis.call('HDEL', slots_key, process) end
end)
local changed = false
for name, value in pairs({capacity = capacity, repo_cap = repo_cap, slots = tostring(slots)}) do
  if redis.call('HGET', limits_key, name) ~= value then
    redis.call('HSET', limits_key, name, value)
    changed = true
  end
end

-- A build that has lost its owner keeps its slot. Redis may have lost that it has one, which nobody else would notice.
for _, name in ipairs(redis.call('SMEMBERS', orphans_key)) do
  local id = name:match('^b:(.+)$')
  local build = id and redis.pcall('HMGET', record(id), 'owner', 'final', 'repo_url') or {}
  if build.err and not is_wrong_type(build) then return build end
  if not build[1] or build[2] == '1' then
    redis.call('SREM', orphans_key, name)
  elseif build[1] == '' and redis.call('HSETNX', running_key, id, build[3] or '') == 1 then
    changed = true
  end
end

local free = math.min(tonumber(capacity), slots) - redis.call('HLEN', running_key)
local admitted = {}
if free > 0 then
  local running_by_repo, ids, starts = {}, {}, {}
  for _, repo in ipairs(redis.call('HVALS', running_key)) do
    running_by_repo[repo] = (running_by_repo[repo] or 0) + 1
  end

  local waiting = redis.call('ZRANGE', waiting_key, 0, -1, 'WITHSCORES')
  for i = 1, #waiting, 2 do ids[#ids + 1], starts[#starts + 1] = waiting[i], waiting[i + 1] end

  local queue = build_queue(ids, running_by_repo, tonumber(repo_cap), function(id)
    local repo = field_of(prefix, id, 'repo_url')
    if not repo then redis.call('ZREM', waiting_key, id) end
    return repo
  end)

  while free > 0 do
    local index, repo = queue.next()
    if not index then break end
    local id = ids[index]
    redis.call('ZREM', waiting_key, id)
    redis.call('HSET', running_key, id, repo)
    raise_epoch(record(id))
    redis.call('HSET', record(id), 'admitted', next_number(repos_key, ':admissions'))
    local virtual = math.floor(tonumber(starts[index]))
    local virtual_now = tonumber(redis.call('HGET', repos_key, ':now') or '') or 0
    if virtual > virtual_now then redis.call('HSET', repos_key, ':now', virtual) end
    free = free - 1
    admitted[#admitted + 1] = id
  end
end

if changed or #admitted > 0 then redis.call('PUBLISH', version_key, redis.call('INCR', version_key)) end
if redis.call('ZCARD', waiting_key) == 0 and redis.call('HLEN', running_key) == 0 then redis.call('DEL', repos_key) end
return admitted
