-- Takes or keeps a pool's leadership. Answers the epoch, or 0 when another leads.
-- KEYS: leader. ARGV: candidate, TTL (ms). The time is the server's.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = redis.call('HMGET', KEYS[1], 'holder', 'epoch', 'expires')
local epoch = tonumber(found[2] or 0)
if found[1] ~= ARGV[1] then
  if found[1] and tonumber(found[3]) > now then return 0 end
  epoch = epoch + 1
end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'epoch', epoch, 'expires', now + tonumber(ARGV[2]))
return epoch
