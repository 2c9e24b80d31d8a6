-- The order of the build queue, for the scripts that include this file: those that give slots and those that predict
-- positions must agree.

-- Return the slots of all living workers together, and how many workers live. Calls `on_dead` with each other worker.
local function living(slots_key, prefix, on_dead)
  local slots, workers = 0, 0
  local offered = redis.call('HGETALL', slots_key)
  for i = 1, #offered, 2 do
    if redis.call('EXISTS', prefix .. ':alive:' .. offered[i]) == 1 then
      slots, workers = slots + tonumber(offered[i + 1]), workers + 1
    elseif on_dead then
      on_dead(offered[i])
    end
  end
  return slots, workers
end

-- Return a queue that gives slots to the builds `waiting`, one by one: each time to the first whose repository has
-- fewer than `cap` of them. `of` counts the slots of each repository; `repo_of` returns the repository of a build, or
-- nothing if its record is gone.
local function queue_of(waiting, of, cap, repo_of)
  local at, held, freed = 0, {}, {}
  local queue = {}

  -- Give the next build a slot; return its index and its repository, or nothing if none may start.
  function queue.next()
    local first, from  -- builds that were passed over come before those not looked at yet
    for repo in pairs(freed) do
      local passed = held[repo]
      if (of[repo] or 0) < cap and (not first or passed[passed.first] < first) then
        first, from = passed[passed.first], repo
      end
    end
    if first then
      local passed = held[from]
      passed.first = passed.first + 1
      if passed.first > #passed then held[from], freed[from] = nil, nil end
    end
    while not first and at < #waiting do
      at = at + 1
      local repo = repo_of(waiting[at])
      if repo and (of[repo] or 0) < cap then
        first, from = at, repo
      elseif repo then
        held[repo] = held[repo] or {first = 1}
        table.insert(held[repo], at)
      end
    end
    if first then of[from] = (of[from] or 0) + 1 end
    return first, from
  end

  -- Free the slot of a build of a repository that has ended.
  function queue.ended(repo)
    of[repo] = (of[repo] or 0) - 1
    if held[repo] then freed[repo] = true end
  end

  return queue
end
