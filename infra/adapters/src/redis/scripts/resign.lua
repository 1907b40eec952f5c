-- Gives a pool's leadership up, if the candidate has it. KEYS: leader. ARGV: candidate.
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then redis.call('HDEL', KEYS[1], 'holder') end
return 1
