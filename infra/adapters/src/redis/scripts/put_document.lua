-- Writes a document, if its revision is the expected one (0: there is none).
-- KEYS: documents, their keys in order, then both of each document written with it.
-- ARGV: key, expected revision, document, then key and document of each.
local found = redis.call('HGET', KEYS[1], ARGV[1])
local revision = found and string.match(found, '^(%d+):') or '0'
if revision ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d:', tonumber(revision) + 1) .. ARGV[3])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
local document = 3
for i = 4, #ARGV, 2 do
  local found = redis.call('HGET', KEYS[document], ARGV[i])
  local revision = found and tonumber(string.match(found, '^(%d+):')) or 0
  redis.call('HSET', KEYS[document], ARGV[i], string.format('%d:', revision + 1) .. ARGV[i + 1])
  redis.call('ZADD', KEYS[document + 1], 0, ARGV[i])
  document = document + 2
end
return 1
