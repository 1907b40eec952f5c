-- Removes a worker, if it is still in that life. KEYS: workers. ARGV: id, incarnation.
local record = redis.call('HGET', KEYS[1], ARGV[1])
if record and cjson.decode(record).incarnation == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 1
