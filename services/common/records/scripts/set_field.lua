-- Set a field that others than the owner write, of a record that is there: none is begun by this.
-- KEYS record   ARGV 1 field, 2 value
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
