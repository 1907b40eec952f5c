-- Renews a lease. Answers the job's state, or '' when the lease is gone.
-- KEYS: job, lease. ARGV: token, progress, id, what the key of a pool's leases begins with (the
-- pool is known to the job alone; the key has the same hash tag).
local job = redis.call('HMGET', KEYS[1], 'token', 'state', 'pool')
if job[1] ~= ARGV[1] then return '' end
local state = job[2]
if state ~= 'dispatched' and state ~= 'running' and state ~= 'pausing' then return '' end
if redis.call('HGET', KEYS[2], 'token') ~= ARGV[1] then redis.call('DEL', KEYS[2]) end
redis.call('HSET', KEYS[2], 'token', ARGV[1], 'progress', ARGV[2])
redis.call('HINCRBY', KEYS[2], 'renewals', 1)
redis.call('SADD', ARGV[4] .. job[3], ARGV[3])
return state
