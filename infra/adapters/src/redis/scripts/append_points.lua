-- Stores points of one metric; those that a higher token wrote stay.
-- KEYS: points (score: step, member: 'step:token:value'), the job's metrics.
-- ARGV: metric, token, then step and value of each point.
redis.call('SADD', KEYS[2], ARGV[1])
local token = tonumber(ARGV[2])
for i = 3, #ARGV, 2 do
  local step, higher = ARGV[i], false
  for _, old in ipairs(redis.call('ZRANGE', KEYS[1], step, step, 'BYSCORE')) do
    if tonumber(string.match(old, '^%d+:(%d+):')) > token then higher = true
    else redis.call('ZREM', KEYS[1], old) end
  end
  if not higher then
    redis.call('ZADD', KEYS[1], step, step .. ':' .. ARGV[2] .. ':' .. ARGV[i + 1])
  end
end
return 1
