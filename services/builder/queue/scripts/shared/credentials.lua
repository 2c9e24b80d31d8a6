-- Give a build another credential: its field 'credentials' has their ids, separated by blanks. It removes them at its end.
local function add_credential(record_key, credential)
  if credential == '' then return end
  local known = redis.call('HGET', record_key, 'credentials') or ''
  if not string.find(' ' .. known .. ' ', ' ' .. credential .. ' ', 1, true) then
    redis.call('HSET', record_key, 'credentials', known == '' and credential or known .. ' ' .. credential)
  end
end
