-- Say that a process lives, or begin to; answers 1 + the number of nouns that it owns. A process whose lease ran out is
-- told so by 0: others may own its work by now.
-- KEYS alive, processes, owned   ARGV 1 process, 2 ttl in ms, 3 '1' to begin
if ARGV[3] == '1' then
  redis.call('SET', KEYS[1], '1', 'PX', ARGV[2])
  redis.call('SADD', KEYS[2], ARGV[1])
elseif redis.call('PEXPIRE', KEYS[1], ARGV[2]) == 0 then
  return 0
end
return 1 + redis.call('SCARD', KEYS[3])
