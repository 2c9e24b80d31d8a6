-- Owners and epochs, for every script that changes them: none stops at a value that is damaged.

local BEYOND_DAMAGED = 100000000

-- Raise the epoch of a record, and return it. One that is no number becomes one beyond all that were given before, so
-- that a former owner does not take itself for a later one, whose taking over Redis has lost (see write.lua).
local function raise_epoch(record_key)
  local text = redis.call('HGET', record_key, 'epoch') or ''
  local epoch = #text < 10 and tonumber(text:match('^%d+$') or '') or BEYOND_DAMAGED
  redis.call('HSET', record_key, 'epoch', epoch + 1)
  return epoch + 1
end

local function is_wrong_type(reply) return type(reply) == 'table' and reply.err and reply.err:find('^WRONGTYPE') end

-- Call a command on the set of what a process owns. A key of another type is removed first: the process finds at its
-- next renewal that not all of its records are listed, and lists them again.
local function call_owned(command, owned_key, ...)
  local reply = redis.pcall(command, owned_key, ...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  if is_wrong_type(reply) then redis.call('DEL', owned_key) end
  return redis.call(command, owned_key, ...)
end
