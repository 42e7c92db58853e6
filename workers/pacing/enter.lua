-- enter(permits, limit, breaker; holder, lease_ms, first_limit)
-- Asks for a permit to call with one key of one provider. Answers {what, milliseconds}:
--   ok       a permit is taken; the second value is 1 where the call is the breaker's probe
--   open     the provider is out; come back then
--   paused   the key's rate limit is used up; come back then
--   busy     the key has as many calls under way as it bears
local permits, limit, breaker = KEYS[1], KEYS[2], KEYS[3]
local holder, lease, first = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local open_until = tonumber(redis.call('HGET', breaker, 'open_until') or '0')
if open_until > now then
    return {'open', open_until - now}
end

local paused = tonumber(redis.call('HGET', limit, 'paused_until') or '0')
if paused > now then
    return {'paused', paused - now}
end

redis.call('ZREMRANGEBYSCORE', permits, '-inf', now)
local bears = tonumber(redis.call('HGET', limit, 'limit') or first)
if redis.call('ZCARD', permits) >= bears then
    return {'busy', 0}
end

local probe = 0
if open_until > 0 then
    -- The time is over: one call finds out, whoever makes it; the others wait for its answer.
    local probing = tonumber(redis.call('HGET', breaker, 'probing_until') or '0')
    if probing > now then
        -- Its lease is for a caller that dies; an answer comes long before it runs out.
        return {'open', math.min(probing - now, 1000)}
    end
    redis.call('HSET', breaker, 'probing_until', now + lease, 'prober', holder)
    probe = 1
end

redis.call('ZADD', permits, now + lease, holder)
redis.call('PEXPIRE', permits, lease)
return {'ok', probe}
