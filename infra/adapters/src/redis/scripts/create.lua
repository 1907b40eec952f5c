-- Writes a new job, unless its idempotency key was used before.
-- KEYS: idempotency, job, tenant's jobs, pool's active jobs, events, the outbox's four, tenants,
--   then two of each document.
-- ARGV: body, answer, remembered (ms), id, record, revision, token, state, pool, tenant, events,
--   ..., outbox entries, ..., key and document of each.
local earlier = redis.call('HMGET', KEYS[1], 'body', 'answer')
if earlier[1] then
  if earlier[1] == ARGV[1] then return {'replayed', earlier[2]} end
  return {'mismatch'}
end
redis.call('HSET', KEYS[1], 'body', ARGV[1], 'answer', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('HSET', KEYS[2], 'record', ARGV[5], 'revision', ARGV[6], 'token', ARGV[7],
  'state', ARGV[8], 'pool', ARGV[9])
redis.call('ZADD', KEYS[3], 0, ARGV[4])
redis.call('ZADD', KEYS[4], 0, ARGV[4])
redis.call('SADD', KEYS[10], ARGV[10])
local events = tonumber(ARGV[11])
for i = 12, 11 + events do redis.call('RPUSH', KEYS[5], ARGV[i]) end
local entries = tonumber(ARGV[12 + events])
local documents = 13 + events + 2 * entries
for i = 13 + events, documents - 1, 2 do
  redis.call('ZADD', KEYS[6], redis.call('INCR', KEYS[8]), ARGV[i])
  redis.call('HSET', KEYS[7], ARGV[i], ARGV[i + 1])
  redis.call('SADD', KEYS[9], ARGV[i])
end
local document = 11
for i = documents, #ARGV, 2 do
  local found = redis.call('HGET', KEYS[document], ARGV[i])
  local revision = found and tonumber(string.match(found, '^(%d+):')) or 0
  redis.call('HSET', KEYS[document], ARGV[i], string.format('%d:', revision + 1) .. ARGV[i + 1])
  redis.call('ZADD', KEYS[document + 1], 0, ARGV[i])
  document = document + 2
end
return {'created'}
