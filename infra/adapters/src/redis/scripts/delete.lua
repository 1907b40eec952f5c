-- Removes a job and all that belongs to it.
-- KEYS: job, tenant's jobs, pool's active jobs, lease, pool's leases, events, then the outbox's
--   four. ARGV: id.
for _, entry in ipairs(redis.call('SMEMBERS', KEYS[10])) do
  redis.call('ZREM', KEYS[7], entry)
  redis.call('HDEL', KEYS[8], entry)
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('SREM', KEYS[5], ARGV[1])
redis.call('DEL', KEYS[4], KEYS[6], KEYS[10])
return redis.call('DEL', KEYS[1])
