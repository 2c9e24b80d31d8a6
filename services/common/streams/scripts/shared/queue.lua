-- The order of the build queue, for the scripts that include this file: those that give slots and those that predict
-- positions must agree.

-- Return a field of a build's record; nothing if the record is gone, or is no hash.
local function field_of(prefix, id, name)
  local record_key = prefix .. ':{b:' .. id .. '}:record'
  local value = redis.pcall('HGET', record_key, name)
  if type(value) ~= 'table' then return value or nil end
  if value.err:find('^WRONGTYPE') then return nil end
  return redis.call('HGET', record_key, name)
end

-- Return the next number of a counter in a hash. One that is damaged begins again.
local function next_number(key, field)
  local number = (tonumber(redis.call('HGET', key, field) or '') or 0) + 1
  redis.call('HSET', key, field, number)
  return number
end

-- Return the slots of all living workers together, and how many workers live. Calls `on_dead` with each other worker.
local function living(slots_key, prefix, on_dead)
  local slots, workers = 0, 0
  local offered = redis.call('HGETALL', slots_key)
  for i = 1, #offered, 2 do
    if redis.call('EXISTS', prefix .. ':alive:' .. offered[i]) == 1 then
      slots, workers = slots + (tonumber(offered[i + 1]) or 0), workers + 1
    elseif on_dead then
      on_dead(offered[i])
    end
  end
  return slots, workers
end

-- Return a queue that gives slots to the waiting builds `ids`, one by one: each time to the first whose repository has
-- fewer than `repo_cap` of them. `running_by_repo` counts the slots of each repository, and the queue changes it;
-- `repo_of` returns the repository of a build, or nothing if its record is gone.
local function build_queue(ids, running_by_repo, repo_cap, repo_of)
  local last_index = 0  -- up to which the builds have been looked at
  local passed_over = {}  -- for each repository the indexes of builds that were passed over, from `head` on
  local repos_with_room = {}  -- the repositories in `passed_over` that have freed a slot since
  local queue = {}

  local function has_room(repo) return (running_by_repo[repo] or 0) < repo_cap end

  -- Give the next build a slot; return its index and its repository, or nothing if none may start.
  function queue.next()
    local index, repo  -- builds that were passed over come before those not looked at yet
    for candidate in pairs(repos_with_room) do
      local indexes = passed_over[candidate]
      if has_room(candidate) and (not index or indexes[indexes.head] < index) then
        index, repo = indexes[indexes.head], candidate
      end
    end
    if index then
      local indexes = passed_over[repo]
      indexes.head = indexes.head + 1
      if indexes.head > #indexes then passed_over[repo], repos_with_room[repo] = nil, nil end
    end

    while not index and last_index < #ids do
      last_index = last_index + 1
      local candidate = repo_of(ids[last_index])
      if candidate and has_room(candidate) then
        index, repo = last_index, candidate
      elseif candidate then
        passed_over[candidate] = passed_over[candidate] or {head = 1}
        table.insert(passed_over[candidate], last_index)
      end
    end

    if index then running_by_repo[repo] = (running_by_repo[repo] or 0) + 1 end
    return index, repo
  end

  -- Free the slot of a build of a repository that has ended.
  function queue.free_slot(repo)
    running_by_repo[repo] = (running_by_repo[repo] or 0) - 1
    if passed_over[repo] then repos_with_room[repo] = true end
  end

  return queue
end
