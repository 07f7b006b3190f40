-- Tells what was taken of buckets, and changes nothing.
-- Caller: src/admission/redis/buckets.rs (for `chancery limits show`)
-- KEYS any number: {limits}:<limit>:<key>, as bucket_take.lua writes them
-- ARGV none
-- Result: for each key two integers: µs until it is full, µs that a use costs (1 if there is no such bucket)
-- TTL: writes nothing
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local told = {}
for _, key in ipairs(KEYS) do
  local full, step = string.match(redis.call('GET', key) or '', '^(%d+):(%d+)$')
  told[#told + 1] = math.max((tonumber(full) or now) - now, 0)
  told[#told + 1] = tonumber(step) or 1
end
return told
