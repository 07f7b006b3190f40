-- Spends a nonce whose seal the caller has checked: once in the whole fleet, and only while its epoch is known here.
-- Caller: src/admission/redis/mod.rs (once for each signed request)
-- KEYS 1: {nonce}:keys (see nonce_keys.lua); 2: {nonce}:spent:<the nonce's random part>
-- ARGV 1: epoch; 2: expiry (µs); 3: id of this redemption, so that a call repeated after a lost answer passes again
-- Result: 1 accepted, 0 spent before, -1 expired, -2 unknown epoch
-- TTL: the mark outlives the nonce by one second
-- A server takes another replication id whenever it is restarted or promoted, and may then have lost marks: the epochs are
-- over on it, whether or not nonce_keys.lua has ended them yet. (Asking costs 2 µs.)
local held = redis.call('HMGET', KEYS[1], 'epoch', 'last_epoch', 'replid')
local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)') or ''
if ARGV[1] ~= held[1] and ARGV[1] ~= held[2] or replid ~= held[3] then
  return -2
end
local time = redis.call('TIME')
local left = tonumber(ARGV[2]) - (time[1] * 1000000 + time[2])
if left <= 0 then
  return -1
end
local ttl = string.format('%.0f', math.ceil(left / 1000) + 1000)
if redis.call('SET', KEYS[2], ARGV[3], 'NX', 'PX', ttl) then
  return 1
end
if redis.call('GET', KEYS[2]) == ARGV[3] then
  return 1
end
return 0
