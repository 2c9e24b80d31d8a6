-- Give free slots to waiting builds, in order, at most so many of one repository.
-- KEYS waiting, running, repos, version, slots   ARGV 1 capacity, 2 cap per repository, 3 key prefix
local slots, workers = 0, 0
local offered = redis.call('HGETALL', KEYS[5])
for i = 1, #offered, 2 do
  if redis.call('EXISTS', ARGV[3] .. ':alive:' .. offered[i]) == 1 then
    slots, workers = slots + tonumber(offered[i + 1]), workers + 1
  else
    redis.call('HDEL', KEYS[5], offered[i])
  end
end
local free = math.min(tonumber(ARGV[1]), slots) - redis.call('HLEN', KEYS[2])
local out = {tostring(workers)}
if free > 0 then
  local of = {}
  for _, repo in ipairs(redis.call('HVALS', KEYS[2])) do of[repo] = (of[repo] or 0) + 1 end
  local waiting = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
  for i = 1, #waiting, 2 do
    if free <= 0 then break end
    local record = ARGV[3] .. ':{b:' .. waiting[i] .. '}:record'
    local repo = redis.call('HGET', record, 'repo_url')
    if not repo then
      redis.call('ZREM', KEYS[1], waiting[i])
    elseif (of[repo] or 0) < tonumber(ARGV[2]) then
      redis.call('ZREM', KEYS[1], waiting[i])
      redis.call('HSET', KEYS[2], waiting[i], repo)
      redis.call('HINCRBY', record, 'epoch', 1)
      local virtual = math.floor(tonumber(waiting[i + 1]))
      if virtual > tonumber(redis.call('HGET', KEYS[3], ':now') or '0') then redis.call('HSET', KEYS[3], ':now', virtual) end
      of[repo] = (of[repo] or 0) + 1
      free = free - 1
      out[#out + 1] = waiting[i]
    end
  end
end
if #out > 1 then redis.call('INCR', KEYS[4]) end
if redis.call('ZCARD', KEYS[1]) == 0 and redis.call('HLEN', KEYS[2]) == 0 then redis.call('DEL', KEYS[3]) end
return out
