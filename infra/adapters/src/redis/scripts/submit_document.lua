-- Writes a new document and keeps the answer to its request, unless the idempotency key was used
-- before. Without a document only the answer is kept.
-- KEYS: idempotency, documents, their keys in order.
-- ARGV: body, answer, remembered (ms), then key and document where there is one.
local earlier = redis.call('HMGET', KEYS[1], 'body', 'answer')
if earlier[1] then
  if earlier[1] == ARGV[1] then return {'replayed', earlier[2]} end
  return {'mismatch'}
end
if ARGV[4] then
  if redis.call('HEXISTS', KEYS[2], ARGV[4]) == 1 then return {'conflict'} end
  redis.call('HSET', KEYS[2], ARGV[4], '1:' .. ARGV[5])
  redis.call('ZADD', KEYS[3], 0, ARGV[4])
end
redis.call('HSET', KEYS[1], 'body', ARGV[1], 'answer', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {'written'}
