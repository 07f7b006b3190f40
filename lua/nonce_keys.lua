-- Agrees on the key that seals nonces: makes, rotates and reads the fleet's current and last key.
-- Caller: src/admission/redis/keys.rs (on every new connection, every few seconds, when an epoch is unknown)
-- KEYS 1: {nonce}:keys, a hash: epoch, key, since (µs), server, replid, last_epoch, last_key
-- ARGV 1: epoch to use if a new one is due; 2: key to use then; 3: age (µs) at which a key is due; 4: TTL (ms)
-- Result: {time (µs), epoch, key, last epoch or "", last key or ""}
-- TTL: the hash expires ARGV 4 after the last call that found less than that left
-- A server that was restarted or promoted may have lost spent marks while it kept this hash. It has another run id or
-- replication id than noted here, so both epochs end at once: no nonce from before can come back. (A hash without a
-- replication id is of an earlier program, which went by the run id.)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)') or ''
local held = redis.call('HMGET', KEYS[1], 'epoch', 'key', 'since', 'server', 'last_epoch', 'last_key', 'replid')
local epoch, key, since = held[1], held[2], tonumber(held[3])
local last_epoch, last_key = held[5] or '', held[6] or ''

if not (epoch and key and since) or held[4] ~= server or (held[7] or replid) ~= replid then
  epoch, key, last_epoch, last_key = ARGV[1], ARGV[2], '', ''
  redis.call('DEL', KEYS[1])
elseif now - since >= tonumber(ARGV[3]) or since > now then
  last_epoch, last_key, epoch, key = epoch, key, ARGV[1], ARGV[2]
end
if epoch ~= held[1] then
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'key', key, 'since', string.format('%.0f', now),
    'server', server, 'replid', replid, 'last_epoch', last_epoch, 'last_key', last_key)
elseif not held[7] then
  redis.call('HSET', KEYS[1], 'replid', replid)
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return { now, epoch, key, last_epoch, last_key }
