-- Removes a job and all that belongs to it.
-- KEYS: job, tenant's jobs, pool's active jobs, lease, pool's leases, events, the outbox's four,
--   then two of each document. ARGV: id, then key and document of each.
for _, entry in ipairs(redis.call('SMEMBERS', KEYS[10])) do
  redis.call('ZREM', KEYS[7], entry)
  redis.call('HDEL', KEYS[8], entry)
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('SREM', KEYS[5], ARGV[1])
redis.call('DEL', KEYS[4], KEYS[6], KEYS[10])
if redis.call('DEL', KEYS[1]) == 0 then return 0 end
local document = 11
for i = 2, #ARGV, 2 do
  local found = redis.call('HGET', KEYS[document], ARGV[i])
  local revision = found and tonumber(string.match(found, '^(%d+):')) or 0
  redis.call('HSET', KEYS[document], ARGV[i], string.format('%d:', revision + 1) .. ARGV[i + 1])
  redis.call('ZADD', KEYS[document + 1], 0, ARGV[i])
  document = document + 2
end
return 1
