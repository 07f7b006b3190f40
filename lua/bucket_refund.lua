-- Gives back what was taken from buckets, never past full (GCRA; the twin is src/admission/gcra.rs).
-- Caller: src/admission/redis/buckets.rs (when work that was paid for is refused or fails, or a validation has not failed)
-- KEYS any number, all different: {limits}:<limit>:<key>, as bucket_take.lua writes them
-- ARGV three for each key: interval (µs); capacity; uses to give back
-- Result: how many buckets had something to give back to
-- TTL: until the bucket is full; one that is full now is deleted
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local changed = 0

for i, key in ipairs(KEYS) do
  local interval, capacity, uses = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local full, step = string.match(redis.call('GET', key) or '', '^(%d+):(%d+)$')
  if full then
    local debt = math.max(tonumber(full) - now, 0)
    if tonumber(step) ~= interval then
      debt = math.ceil(debt / tonumber(step)) * interval
    end
    debt = math.min(debt, capacity * interval) - uses * interval
    if debt > 0 then
      local held = string.format('%.0f:%s', now + debt, ARGV[3 * i - 2])
      redis.call('SET', key, held, 'PX', string.format('%.0f', math.ceil(debt / 1000)))
    else
      redis.call('DEL', key)
    end
    changed = changed + 1
  end
end
return changed
