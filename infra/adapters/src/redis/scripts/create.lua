-- Writes a new job, unless its idempotency key was used before.
-- KEYS: idempotency, job, tenant's jobs, pool's active jobs, events, then the outbox's four.
-- ARGV: body, answer, remembered (ms), id, record, revision, token, state, pool, events, ...
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
local events = tonumber(ARGV[10])
for i = 11, 10 + events do redis.call('RPUSH', KEYS[5], ARGV[i]) end
for i = 11 + events, #ARGV, 2 do
  redis.call('ZADD', KEYS[6], redis.call('INCR', KEYS[8]), ARGV[i])
  redis.call('HSET', KEYS[7], ARGV[i], ARGV[i + 1])
  redis.call('SADD', KEYS[9], ARGV[i])
end
return {'created'}
