-- Claim one orphan of a stage, or the one named. Handing out a claim raises the epoch.
-- KEYS orphans, owned, alive
-- ARGV 1 process, 2 claim, 3 key prefix, 4 noun ('' for any), 5 epoch that it must have ('' for any), 6 '1' when repeated
if redis.call('EXISTS', KEYS[3]) == 0 then return {'none'} end  -- nobody would find what this process leaves behind
if ARGV[6] == '1' then
  for _, noun in ipairs(redis.call('SMEMBERS', KEYS[2])) do
    local record = ARGV[3] .. ':{' .. noun .. '}:record'
    local now = redis.call('HMGET', record, 'claim', 'epoch')
    if now[1] == ARGV[2] then return {'claimed', noun, now[2], redis.call('HGETALL', record)} end
  end
end
while true do
  local noun = ARGV[4]
  if noun == '' then
    noun = redis.call('SRANDMEMBER', KEYS[1])
    if not noun then return {'none'} end
  end
  redis.call('SREM', KEYS[1], noun)
  local record = ARGV[3] .. ':{' .. noun .. '}:record'
  local now = redis.call('HMGET', record, 'epoch', 'owner', 'final')
  if now[1] and now[2] == '' and now[3] ~= '1' and (ARGV[5] == '' or ARGV[5] == now[1]) then
    local epoch = tonumber(now[1])
    if ARGV[5] == '' then epoch = redis.call('HINCRBY', record, 'epoch', 1) end
    redis.call('HSET', record, 'owner', ARGV[1], 'claim', ARGV[2])
    redis.call('SADD', KEYS[2], noun)
    return {'claimed', noun, tostring(epoch), redis.call('HGETALL', record)}
  end
  if ARGV[4] ~= '' then return {'none'} end
end
