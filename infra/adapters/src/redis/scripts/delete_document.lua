-- Removes a document. KEYS: documents, their keys in order, then both of each document written with
-- it. ARGV: key, then key and document of each.
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
local document = 3
for i = 2, #ARGV, 2 do
  local found = redis.call('HGET', KEYS[document], ARGV[i])
  local revision = found and tonumber(string.match(found, '^(%d+):')) or 0
  redis.call('HSET', KEYS[document], ARGV[i], string.format('%d:', revision + 1) .. ARGV[i + 1])
  redis.call('ZADD', KEYS[document + 1], 0, ARGV[i])
  document = document + 2
end
return 1
