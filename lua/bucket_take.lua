-- Takes from several buckets, or from none if one of them has too little left (GCRA; the twin is src/admission/gcra.rs).
-- Caller: src/admission/redis/buckets.rs (before work that is limited)
-- KEYS any number, all different: {limits}:<limit>:<key>, text "full:interval": when it is full (µs), µs that a use costs
-- ARGV four for each key: interval (µs); capacity; cost in uses; 1 to take, 0 to look only
-- Result: {which key must be waited for longest, 0 if everything was taken; how long (µs)}
-- TTL: until the bucket is full, when it is as good as none
-- A bucket whose interval has changed keeps what was taken of it, in whole uses.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local refused, wait, debts = 0, 0, {}

for i, key in ipairs(KEYS) do
  local interval, capacity, cost = tonumber(ARGV[4 * i - 3]), tonumber(ARGV[4 * i - 2]), tonumber(ARGV[4 * i - 1])
  local full, step = string.match(redis.call('GET', key) or '', '^(%d+):(%d+)$')
  local debt = math.max((tonumber(full) or now) - now, 0)
  if step and tonumber(step) ~= interval then
    debt = math.ceil(debt / tonumber(step)) * interval
  end
  debt = math.min(debt, capacity * interval) + cost * interval
  if debt - capacity * interval > wait then
    refused, wait = i, debt - capacity * interval
  end
  debts[i] = debt
end

if refused == 0 then
  for i, key in ipairs(KEYS) do
    if ARGV[4 * i] == '1' and debts[i] > 0 then
      local held = string.format('%.0f:%s', now + debts[i], ARGV[4 * i - 3])
      redis.call('SET', key, held, 'PX', string.format('%.0f', math.ceil(debts[i] / 1000)))
    end
  end
end
return { refused, wait }
