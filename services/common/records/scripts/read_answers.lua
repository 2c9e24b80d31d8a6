-- reads only
-- Read cached answers. A script, so that it can share a round trip with others.
-- KEYS any
-- Answers their values.
return redis.call('MGET', unpack(KEYS))
