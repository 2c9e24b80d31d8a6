-- Seats and the queue for them, for every script of this folder. One order for all, so that the scripts never disagree.
--
-- The order of the queue: before each launch come the seats that its repository's servers hold, and those that earlier
-- launches of its repository wait for. The launch with the fewest seats before it is first; among equals, the earliest.
-- Launches that their repository's quota, or the total, keeps out come after all others and keep nobody waiting. Any
-- other launch that does not fit yet is waited for, so that smaller ones do not overtake it forever.
--
-- After Redis was emptied nobody knows how many servers run: until they are counted, no limited seat is given.
--
-- KEYS 1 members: server that has a seat -> holder (hash)
--      2 waiting: servers, by the time of their request (sorted set)
--      3 asked: server that waits -> holder that it is to become (hash)
--      4 held: total; u:<repository>: its seats; n:<repository>: its servers (hash)
--      5 counted: `yes`, or the token of a count under way, which is lost if Redis is emptied meanwhile (string)
-- ARGV 1 total: seats in total (-1: no limit)
--      2 room: launches that may wait (-1: no limit)
--      3 channel: the launchers' channel
--      4 and later: see each script
--
-- A holder is JSON: repo, cost (seats that it takes), quota (servers of its repository; 0 or less: no limit),
-- reserved_at, user.
local holders_key = KEYS[1]
local waiting_key = KEYS[2]
local requests_key = KEYS[3]
local held_key = KEYS[4]
local counted_key = KEYS[5]
local total = tonumber(ARGV[1])
local room = tonumber(ARGV[2])
local channel = ARGV[3]

-- Answers in place of a position, which begins at 1 (SeatAnswer in positions.py).
local SEATED, UNKNOWN, NEVER, FULL = 0, -1, -2, -3
-- What keeps a launch that waits from a seat (BlockedBy in positions.py).
local ADMISSIBLE, KEPT_OUT, NOT_COUNTED = 0, 1, 2

local is_counted = redis.call('GET', counted_key) == 'yes'
local has_moved = false  -- whether positions or free seats changed, which the other launchers are to know

local function whole(value)
  local number = tonumber(value)
  return number and number == math.floor(number) and math.abs(number) < 1e9 and number
end

local function parse(raw)
  local is_read, holder = pcall(cjson.decode, raw)
  if not is_read or type(holder) ~= 'table' then holder = {} end  -- a damaged one still takes its seat
  holder.raw = raw
  holder.repo = type(holder.repo) == 'string' and holder.repo or ''
  holder.cost = whole(holder.cost) or 1
  if holder.cost <= 0 then holder.cost = 1 end
  holder.quota = whole(holder.quota) or -1
  if holder.quota <= 0 then holder.quota = -1 end
  return holder
end

-- A total that is damaged counts as none until the totals are repaired.
local function held(name) return whole(redis.call('HGET', held_key, name)) or 0 end

local function add_held(name, by)
  local number = held(name) + by
  if number > 0 then redis.call('HSET', held_key, name, number) else redis.call('HDEL', held_key, name) end
end

local function count_holder(holder, sign)
  add_held('total', sign * holder.cost)
  add_held('u:' .. holder.repo, sign * holder.cost)
  add_held('n:' .. holder.repo, sign)
end

local function seat(id, holder)
  if redis.call('HSETNX', holders_key, id, holder.raw) == 1 then count_holder(holder, 1) end
end

local function leave_queue(id) return redis.call('ZREM', waiting_key, id) + redis.call('HDEL', requests_key, id) end

local function free_seats() return total < 0 and math.huge or total - held('total') end

local function can_never_sit(holder) return total >= 0 and holder.cost > total end

-- Whether it is known how many seats are free for a holder, or does not matter.
local function is_count_known(holder) return is_counted or (total < 0 and holder.quota < 0) end

local function is_within_quota(holder) return holder.quota < 0 or held('n:' .. holder.repo) < holder.quota end

-- The launches that wait, in order. Each entry has `blocked_by` beside the fields of its holder.
local function queue()
  local entries = {}
  local ids = redis.call('ZRANGE', waiting_key, 0, -1)
  if #ids == 0 then return entries end

  local raw_of = {}
  local requests = redis.call('HGETALL', requests_key)
  for i = 1, #requests, 2 do raw_of[requests[i]] = requests[i + 1] end

  local repos = {}
  for arrival, id in ipairs(ids) do
    if raw_of[id] then
      local entry = parse(raw_of[id])
      local repo = repos[entry.repo] or {seats = held('u:' .. entry.repo), servers = held('n:' .. entry.repo)}
      repos[entry.repo] = repo
      repo.is_full = repo.is_full or (entry.quota >= 0 and repo.servers >= entry.quota)

      entry.id = id
      entry.arrival = arrival
      entry.seats_before = repo.seats
      if repo.is_full or can_never_sit(entry) then
        entry.blocked_by = KEPT_OUT
      elseif is_count_known(entry) then
        entry.blocked_by = ADMISSIBLE
      else
        entry.blocked_by = NOT_COUNTED
      end

      if not can_never_sit(entry) then
        repo.seats = repo.seats + entry.cost
        repo.servers = repo.servers + 1
      end
      entries[#entries + 1] = entry
    else
      redis.call('ZREM', waiting_key, id)
    end
  end

  table.sort(entries, function(a, b)
    if a.blocked_by ~= b.blocked_by then return a.blocked_by < b.blocked_by end
    if a.seats_before ~= b.seats_before then return a.seats_before < b.seats_before end
    return a.arrival < b.arrival
  end)
  return entries
end

-- Gives the free seats to the first launches of the queue. Returns those that still wait, in order.
local function admit()
  local entries = queue()
  local free = free_seats()
  local first = 1
  while entries[first] and entries[first].blocked_by == ADMISSIBLE and entries[first].cost <= free do
    local entry = entries[first]
    leave_queue(entry.id)
    seat(entry.id, entry)
    free = free - entry.cost
    first = first + 1
    has_moved = true
  end

  local still_waiting = {}
  for i = first, #entries do still_waiting[#still_waiting + 1] = entries[i] end
  return still_waiting
end

-- The position of each entry, or NEVER, and what blocks it; both by server.
local function positions_of(entries)
  local position = {}
  local blocked_by = {}
  for i, entry in ipairs(entries) do
    position[entry.id] = can_never_sit(entry) and NEVER or i
    blocked_by[entry.id] = entry.blocked_by
  end
  return position, blocked_by
end

-- Returns `answer`, and wakes the other launchers if anything has moved.
local function reply(answer)
  if has_moved then redis.call('PUBLISH', channel, 'seat') end
  return answer
end
