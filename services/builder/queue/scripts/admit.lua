-- include services/common/streams/scripts/shared/queue.lua
-- Give free slots to waiting builds, in order, at most so many of one repository.
-- KEYS waiting, running, repos, version, slots, limits   ARGV 1 capacity, 2 cap per repository, 3 key prefix
-- Answers how many builds wait and run now, and those that were given a slot.
local slots = living(KEYS[5], ARGV[3], function(dead) redis.call('HDEL', KEYS[5], dead) end)
local changed = false
for name, value in pairs({capacity = ARGV[1], repo_cap = ARGV[2], slots = tostring(slots)}) do
  if redis.call('HGET', KEYS[6], name) ~= value then
    redis.call('HSET', KEYS[6], name, value)
    changed = true
  end
end
local free = math.min(tonumber(ARGV[1]), slots) - redis.call('HLEN', KEYS[2])
local out = {}
if free > 0 then
  local of, ids, starts = {}, {}, {}
  for _, repo in ipairs(redis.call('HVALS', KEYS[2])) do of[repo] = (of[repo] or 0) + 1 end
  local waiting = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
  for i = 1, #waiting, 2 do ids[#ids + 1], starts[#starts + 1] = waiting[i], waiting[i + 1] end
  local function record(id) return ARGV[3] .. ':{b:' .. id .. '}:record' end
  local queue = queue_of(ids, of, tonumber(ARGV[2]), function(id)
    local repo = redis.call('HGET', record(id), 'repo_url')
    if not repo then redis.call('ZREM', KEYS[1], id) end
    return repo
  end)
  while free > 0 do
    local index, repo = queue.next()
    if not index then break end
    local id = ids[index]
    redis.call('ZREM', KEYS[1], id)
    redis.call('HSET', KEYS[2], id, repo)
    redis.call('HINCRBY', record(id), 'epoch', 1)
    redis.call('HSET', record(id), 'admitted', redis.call('HINCRBY', KEYS[3], ':admissions', 1))
    local virtual = math.floor(tonumber(starts[index]))
    if virtual > tonumber(redis.call('HGET', KEYS[3], ':now') or '0') then redis.call('HSET', KEYS[3], ':now', virtual) end
    free = free - 1
    out[#out + 1] = id
  end
end
if changed or #out > 0 then redis.call('PUBLISH', KEYS[4], redis.call('INCR', KEYS[4])) end
local waits, runs = redis.call('ZCARD', KEYS[1]), redis.call('HLEN', KEYS[2])
if waits == 0 and runs == 0 then redis.call('DEL', KEYS[3]) end
return {waits, runs, unpack(out)}
