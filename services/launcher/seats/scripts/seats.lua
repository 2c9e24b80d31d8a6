-- Seats and the queue for them: everything that is done to either is done here, so that they never disagree.
--
-- The order of the queue. Each launch that waits has before it the seats that its repository's servers hold, and those
-- that its repository's launches asked for earlier. Who has the fewest before it is first; among equals, who came first.
-- Launches that their repository's own quota, or the total, keeps out come after all others, and keep nobody waiting;
-- any other that does not fit yet is waited for, so that no smaller ones overtake it for ever.
--
-- Where Redis was emptied, nobody knows how many servers run: until they are counted, no limited seat is given to anyone.
--
-- KEYS members (server -> member), waiting (servers by time of asking), asked (server -> member-to-be),
--      held (total; u:<repository>: seats; n:<repository>: servers),
--      counted (`yes`; or the token of a count that is under way, which goes if Redis is emptied meanwhile)
-- ARGV 1 action, 2 total (-1: no limit), 3 most that may wait (-1: no limit), 4 wake channel; then by action
--   take   server, time of asking in ms, member    0: it has a seat; else its place, or why it gets none; then 1 where its
--                                                  repository's quota, or the total, keeps it out, 2 where that is not
--                                                  known yet; then 1 where it had a seat or a place before
--   check  member                                  0, or why a launch like that would get none
--   look   server ...                              for each, one after the other, as take answers, or UNKNOWN
--   free   server ...                              how many had a seat or a place
--   count  server, member ...                      sit without being asked: the hub lists them already
--   begin  token                                   what `counted` is now, which is `token` where there was nothing
--   end    token                                   everything is counted: 1, or 0 where that was for an emptied Redis
--   mend                                           reckons `held` anew from the members; 1 where it was wrong
-- A member is JSON: repo, cost (seats that it takes), quota (servers of its repository; 0 or less: no
-- limit), reserved_at, user.
local MEMBERS, WAITING, ASKED, HELD, COUNTED = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local action, total, room, channel = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local UNKNOWN, NEVER, FULL = -1, -2, -3
local moved = false
local is_counted = redis.call('GET', COUNTED) == 'yes'

local function parsed(raw)
  local member = cjson.decode(raw)
  member.raw, member.repo = raw, member.repo or ''
  member.cost, member.quota = tonumber(member.cost) or 1, tonumber(member.quota) or -1
  if member.quota <= 0 then member.quota = -1 end
  return member
end

local function held(name) return tonumber(redis.call('HGET', HELD, name) or '0') end

local function add(name, by)
  if redis.call('HINCRBY', HELD, name, by) <= 0 then redis.call('HDEL', HELD, name) end
end

local function reckon(member, sign)
  add('total', sign * member.cost)
  add('u:' .. member.repo, sign * member.cost)
  add('n:' .. member.repo, sign)
end

local function sit(id, member)
  if redis.call('HSETNX', MEMBERS, id, member.raw) == 1 then reckon(member, 1) end
end

local function forget(id) return redis.call('ZREM', WAITING, id) + redis.call('HDEL', ASKED, id) end

local function free() return total < 0 and math.huge or total - held('total') end

local function never(member) return total >= 0 and member.cost > total end

-- Whether it is known how many seats are free for a member, or does not matter.
local function is_known(member) return is_counted or (total < 0 and member.quota < 0) end

-- Who waits, in order.
local function queue()
  local ids, entries, raw, repos = redis.call('ZRANGE', WAITING, 0, -1), {}, {}, {}
  if #ids == 0 then return entries end
  local all = redis.call('HGETALL', ASKED)
  for i = 1, #all, 2 do raw[all[i]] = all[i + 1] end
  for at, id in ipairs(ids) do
    if raw[id] then
      local entry = parsed(raw[id])
      local repo = repos[entry.repo] or {seats = held('u:' .. entry.repo), servers = held('n:' .. entry.repo)}
      repos[entry.repo] = repo
      repo.is_full = repo.is_full or (entry.quota >= 0 and repo.servers >= entry.quota)
      entry.id, entry.at, entry.before = id, at, repo.seats
      entry.late = (repo.is_full or never(entry)) and 1 or is_known(entry) and 0 or 2
      if not never(entry) then repo.seats, repo.servers = repo.seats + entry.cost, repo.servers + 1 end
      entries[#entries + 1] = entry
    else
      redis.call('ZREM', WAITING, id)
    end
  end
  table.sort(entries, function(a, b)
    if a.late ~= b.late then return a.late < b.late end
    if a.before ~= b.before then return a.before < b.before end
    return a.at < b.at
  end)
  return entries
end

-- Give the free seats to those who are first; answers who still waits, in order.
local function admit()
  local entries, first = queue(), 1
  local left = free()
  while entries[first] and entries[first].late == 0 and entries[first].cost <= left do
    local entry = entries[first]
    forget(entry.id)
    sit(entry.id, entry)
    left, first, moved = left - entry.cost, first + 1, true
  end
  local waits = {}
  for at = first, #entries do waits[#waits + 1] = entries[at] end
  return waits
end

local function places(entries)
  local place, late = {}, {}
  for at, entry in ipairs(entries) do place[entry.id], late[entry.id] = never(entry) and NEVER or at, entry.late end
  return place, late
end

local function answer(out)
  if moved then redis.call('PUBLISH', channel, 'seat') end
  return out
end

if action == 'take' then
  local id, member = ARGV[5], parsed(ARGV[7])
  if redis.call('HEXISTS', MEMBERS, id) == 1 then return {0, 0, 1} end
  local is_new = not redis.call('ZSCORE', WAITING, id)
  local before = is_new and 0 or 1
  if is_new and never(member) then return {NEVER, 0, 0} end
  local others = redis.call('ZCARD', WAITING) - before
  local is_in = member.quota < 0 or held('n:' .. member.repo) < member.quota
  if others == 0 and is_known(member) and is_in and member.cost <= free() then
    if not is_new then forget(id) end
    sit(id, member)
    return {0, 0, before}
  end
  if is_new then
    redis.call('ZADD', WAITING, ARGV[6], id)
    redis.call('HSET', ASKED, id, member.raw)
  end
  local waits = admit()
  local all, late = places(waits)
  local place = all[id] or 0
  -- Without a room to wait in, one waits all the same for what will be known in a moment.
  if is_new and place ~= 0 and room >= 0 and #waits > room and (is_counted or room > 0) then
    forget(id)
    return answer({FULL, 0, 0})
  end
  moved = moved or (is_new and place > 0 and place < #waits)  -- those that it stands before have other places now
  return answer({place, late[id] or 0, before})
elseif action == 'check' then
  local member = parsed(ARGV[5])
  if never(member) then return NEVER end
  if room < 0 or redis.call('ZCARD', WAITING) < room or (room == 0 and not is_counted) then return 0 end
  local first = queue()[1]
  local is_next = (not first or first.late > 0) and is_known(member) and member.cost <= free()
  return is_next and (member.quota < 0 or held('n:' .. member.repo) < member.quota) and 0 or FULL
elseif action == 'look' then
  local out, place, late = {}, places(admit())
  for i = 5, #ARGV do
    local is_seated = not place[ARGV[i]] and redis.call('HEXISTS', MEMBERS, ARGV[i]) == 1
    out[#out + 1] = is_seated and 0 or place[ARGV[i]] or UNKNOWN
    out[#out + 1] = late[ARGV[i]] or 0
  end
  return answer(out)
elseif action == 'free' then
  local gone = 0
  for i = 5, #ARGV do
    local raw = redis.call('HGET', MEMBERS, ARGV[i])
    if raw then
      redis.call('HDEL', MEMBERS, ARGV[i])
      reckon(parsed(raw), -1)
    end
    if forget(ARGV[i]) > 0 or raw then gone = gone + 1 end
  end
  if gone > 0 and redis.call('ZCARD', WAITING) > 0 then
    moved = true
    admit()
  end
  return answer(gone)
elseif action == 'count' then
  for i = 5, #ARGV, 2 do
    forget(ARGV[i])
    sit(ARGV[i], parsed(ARGV[i + 1]))
  end
  return 0
elseif action == 'begin' then
  redis.call('SET', COUNTED, ARGV[5], 'NX')
  return redis.call('GET', COUNTED)
elseif action == 'end' then
  if redis.call('GET', COUNTED) ~= ARGV[5] then return 0 end
  redis.call('SET', COUNTED, 'yes')
  is_counted, moved = true, true
  admit()
  return answer(1)
elseif action == 'mend' then
  local was, is = {}, {}
  local all = redis.call('HGETALL', HELD)
  for i = 1, #all, 2 do was[all[i]] = tonumber(all[i + 1]) end
  for _, raw in ipairs(redis.call('HVALS', MEMBERS)) do
    local member = parsed(raw)
    for name, by in pairs({total = member.cost, ['u:' .. member.repo] = member.cost, ['n:' .. member.repo] = 1}) do
      is[name] = (is[name] or 0) + by
    end
  end
  local wrong = 0
  for name, value in pairs(is) do
    if was[name] ~= value then
      redis.call('HSET', HELD, name, value)
      wrong = 1
    end
  end
  for name in pairs(was) do
    if not is[name] then
      redis.call('HDEL', HELD, name)
      wrong = 1
    end
  end
  admit()
  return answer(wrong)
end
