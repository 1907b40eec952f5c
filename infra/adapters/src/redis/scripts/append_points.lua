-- Stores points of one metric; those that a higher token wrote stay.
-- KEYS: points (score: step, member: 'step:token:value'), the job's metrics, jobs with points.
-- ARGV: metric, job, token, then step and value of each point.
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], 0, ARGV[2])
local token = tonumber(ARGV[3])
local top = redis.call('ZRANGE', KEYS[1], -1, -1)[1]
top = top and tonumber(string.match(top, '^%d+')) or -1
local fresh = {}
local function add()
  if #fresh > 0 then redis.call('ZADD', KEYS[1], unpack(fresh)) end
  fresh = {}
end
for i = 4, #ARGV, 2 do
  local step, higher = ARGV[i], false
  if tonumber(step) > top then top = tonumber(step)
  else
    add()
    for _, old in ipairs(redis.call('ZRANGE', KEYS[1], step, step, 'BYSCORE')) do
      if tonumber(string.match(old, '^%d+:(%d+):')) > token then higher = true
      else redis.call('ZREM', KEYS[1], old) end
    end
  end
  if not higher then
    fresh[#fresh + 1] = step
    fresh[#fresh + 1] = step .. ':' .. ARGV[3] .. ':' .. ARGV[i + 1]
  end
end
add()
return 1
