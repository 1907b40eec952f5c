-- Writes a document, if its revision is the expected one (0: there is none).
-- KEYS: documents, their keys in order. ARGV: key, expected revision, document.
local found = redis.call('HGET', KEYS[1], ARGV[1])
local revision = found and string.match(found, '^(%d+):') or '0'
if revision ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d:', tonumber(revision) + 1) .. ARGV[3])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return 1
