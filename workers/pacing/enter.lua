-- enter(permits, limit, breaker, mine; holder, lease_ms, first_limit, share, longest_open_ms, longest_pause_ms)
-- Asks for a permit to call with one key of one provider. Answers {what, number}:
--   ok       a permit is taken; the number is how many more there are for this caller
--   probe    a permit is taken, and the call is the breaker's probe
--   open     the provider is out; come back after that many milliseconds
--   paused   the key's rate limit is used up; come back after that many milliseconds
--   busy     the key has as many calls under way as it bears
--   share    the account has its share of a key that many accounts use
-- `mine` are the account's permits among `permits`, where the key is not the account's own; else nil.
local permits, limit, breaker, mine = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local holder, lease, first = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local share, longest_open, longest_pause = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Nothing lasts longer than it is ever set for: a time beyond that is of a clock that was set back.
local open_until = tonumber(redis.call('HGET', breaker, 'open_until') or '0')
if open_until > now and open_until <= now + longest_open then
    return {'open', open_until - now}
end

local paused = tonumber(redis.call('HGET', limit, 'paused_until') or '0')
if paused > now and paused <= now + longest_pause then
    return {'paused', paused - now}
end

redis.call('ZREMRANGEBYSCORE', permits, '-inf', now)
redis.call('ZREMRANGEBYSCORE', permits, now + lease + 1, '+inf')
local bears = tonumber(redis.call('HGET', limit, 'limit') or first)
local room = bears - redis.call('ZCARD', permits)
if room <= 0 then
    return {'busy', 0}
end
if mine then
    redis.call('ZREMRANGEBYSCORE', mine, '-inf', now)
    redis.call('ZREMRANGEBYSCORE', mine, now + lease + 1, '+inf')
    local left = math.max(1, math.floor(bears * share)) - redis.call('ZCARD', mine)
    if left <= 0 then
        return {'share', 0}
    end
    room = math.min(room, left)
end

local what = 'ok'
if open_until > 0 then
    -- The time is over: one call finds out, whoever makes it; the others wait for its answer.
    local probing = tonumber(redis.call('HGET', breaker, 'probing_until') or '0')
    if probing > now and probing <= now + lease then
        -- Its lease is for a caller that dies; an answer comes long before it runs out.
        return {'open', math.min(probing - now, 1000)}
    end
    redis.call('HSET', breaker, 'probing_until', now + lease, 'prober', holder)
    what = 'probe'
end

for _, held in ipairs(mine and {permits, mine} or {permits}) do
    redis.call('ZADD', held, now + lease, holder)
    redis.call('PEXPIRE', held, lease)
end
return {what, room - 1}
