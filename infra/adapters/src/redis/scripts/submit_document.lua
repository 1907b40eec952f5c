-- Writes a new document and keeps the answer to its request, unless the idempotency key was used
-- before. Without a document only the answer is kept.
-- KEYS: idempotency, documents, their keys in order, then the latter two of each document written
--   with it.
-- ARGV: body, answer, remembered (ms), key and document ('' where there is none), then key and
--   document of each.
local earlier = redis.call('HMGET', KEYS[1], 'body', 'answer')
if earlier[1] then
  if earlier[1] == ARGV[1] then return {'replayed', earlier[2]} end
  return {'mismatch'}
end
if ARGV[4] ~= '' then
  if redis.call('HEXISTS', KEYS[2], ARGV[4]) == 1 then return {'conflict'} end
  redis.call('HSET', KEYS[2], ARGV[4], '1:' .. ARGV[5])
  redis.call('ZADD', KEYS[3], 0, ARGV[4])
end
redis.call('HSET', KEYS[1], 'body', ARGV[1], 'answer', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local document = 4
for i = 6, #ARGV, 2 do
  local found = redis.call('HGET', KEYS[document], ARGV[i])
  local revision = found and tonumber(string.match(found, '^(%d+):')) or 0
  redis.call('HSET', KEYS[document], ARGV[i], string.format('%d:', revision + 1) .. ARGV[i + 1])
  redis.call('ZADD', KEYS[document + 1], 0, ARGV[i])
  document = document + 2
end
return {'written'}
