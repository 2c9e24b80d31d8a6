-- include services/builder/queue/scripts/shared/credentials.lua
-- Count a launch among those that wait for a build, unless the build has ended: nothing would remove it again.
-- Without a launch, an API client wants the build for itself, and it goes on even if every launch leaves it. The
-- record's field 'detached' names that client: '1' if it is not known, or if there are several.
-- KEYS 1 record
--      2 launches that wait for the build
--      3 abandoned builds
-- ARGV 1 build id
--      2 launch ref, '' for an API client
--      3 API client
--      4 id of a credential for the repository, '' without one
-- Answers 1, or 0 if the build has ended.
local record_key = KEYS[1]
local waiters_key = KEYS[2]
local abandoned_key = KEYS[3]
local build_id = ARGV[1]
local launch_ref = ARGV[2]
local client = ARGV[3]
local credential = ARGV[4]

if redis.call('EXISTS', record_key) == 0 or redis.call('HGET', record_key, 'final') == '1' then return 0 end
if launch_ref ~= '' then
  redis.call('SADD', waiters_key, launch_ref)
elseif (redis.call('HGET', record_key, 'detached') or client) == client and client ~= '' then
  redis.call('HSET', record_key, 'detached', client)
else
  redis.call('HSET', record_key, 'detached', '1')
end
add_credential(record_key, credential)
redis.call('ZREM', abandoned_key, build_id)
return 1
