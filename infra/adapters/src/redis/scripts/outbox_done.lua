-- Removes entries of the outbox. KEYS: order, entries, then each entry's job's entries.
-- ARGV: the entries' ids.
for i, entry in ipairs(ARGV) do
  redis.call('ZREM', KEYS[1], entry)
  redis.call('HDEL', KEYS[2], entry)
  redis.call('SREM', KEYS[i + 2], entry)
end
return #ARGV
