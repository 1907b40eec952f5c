-- Writes a change, if the guard holds and nobody wrote in between.
-- KEYS: leader, job, pool's active jobs, lease, pool's leases, events, the outbox's four, then two
--   of each document.
-- ARGV: guard's epoch or '', id, revision before, record, revision, token, state, active (0 or 1),
--   keeps its lease (0 or 1), events, ..., outbox entries, ..., key and document of each.
if ARGV[1] ~= '' then
  local leader = redis.call('HMGET', KEYS[1], 'epoch', 'holder')
  if leader[1] ~= ARGV[1] or not leader[2] then return 'fenced' end
end
if redis.call('HGET', KEYS[2], 'revision') ~= ARGV[3] then return 'conflict' end
redis.call('HSET', KEYS[2], 'record', ARGV[4], 'revision', ARGV[5], 'token', ARGV[6],
  'state', ARGV[7])
if ARGV[8] == '1' then redis.call('ZADD', KEYS[3], 0, ARGV[2])
else redis.call('ZREM', KEYS[3], ARGV[2]) end
if ARGV[9] == '0' then
  redis.call('DEL', KEYS[4])
  redis.call('SREM', KEYS[5], ARGV[2])
end
local events = tonumber(ARGV[10])
for i = 11, 10 + events do redis.call('RPUSH', KEYS[6], ARGV[i]) end
local entries = tonumber(ARGV[11 + events])
local documents = 12 + events + 2 * entries
for i = 12 + events, documents - 1, 2 do
  redis.call('ZADD', KEYS[7], redis.call('INCR', KEYS[9]), ARGV[i])
  redis.call('HSET', KEYS[8], ARGV[i], ARGV[i + 1])
  redis.call('SADD', KEYS[10], ARGV[i])
end
local document = 11
for i = documents, #ARGV, 2 do
  local found = redis.call('HGET', KEYS[document], ARGV[i])
  local revision = found and tonumber(string.match(found, '^(%d+):')) or 0
  redis.call('HSET', KEYS[document], ARGV[i], string.format('%d:', revision + 1) .. ARGV[i + 1])
  redis.call('ZADD', KEYS[document + 1], 0, ARGV[i])
  document = document + 2
end
return 'written'
