-- leave(permits, limit, breaker, mine; holder, result, pause_ms, probe, first_limit, most, failures, open_ms, longest_ms)
-- Gives a permit back and learns from how the call ended ('ok', 'limited', 'down' or 'other'; of one
-- that is 'unsent', or whose end nobody knows, nothing is learned).
-- Answers 'opened' or 'closed' where this call turned the breaker, else nil.
local permits, limit, breaker, mine = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local holder, result, pause, probe = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local first, most = tonumber(ARGV[5]), tonumber(ARGV[6])
local failures, open_ms, longest = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local keep = 24 * 3600 * 1000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

redis.call('ZREM', permits, holder)
if mine then
    redis.call('ZREM', mine, holder)
end
if result == 'unsent' then
    if redis.call('HGET', breaker, 'prober') == holder then
        redis.call('HDEL', breaker, 'probing_until', 'prober')
    end
    return ''
end

-- The key's limit: twice as many each round until its first rate limit, from there one more for
-- each full round without trouble; half of it at a rate limit.
local bears = tonumber(redis.call('HGET', limit, 'limit') or first)
if result == 'ok' then
    local good = redis.call('HINCRBY', limit, 'good', 1)
    local round = redis.call('HEXISTS', limit, 'halved_at') == 1 and bears or 1
    if good >= round and bears < most then
        redis.call('HSET', limit, 'limit', bears + 1, 'good', 0)
    end
elseif result == 'limited' then
    -- Calls that were under way together are refused together: that is one refusal.
    local halved = tonumber(redis.call('HGET', limit, 'halved_at') or '0')
    if now - halved > 1000 then
        local half = math.max(1, math.floor(bears / 2))
        redis.call('HSET', limit, 'limit', half, 'good', 0, 'halved_at', now)
    end
end
if pause > 0 then
    local paused = tonumber(redis.call('HGET', limit, 'paused_until') or '0')
    redis.call('HSET', limit, 'paused_until', math.max(paused, now + pause))
end
redis.call('PEXPIRE', limit, keep)

-- The provider's breaker: it opens where, of the last calls of all keys, most found it down.
local turned = ''
if result == 'down' then
    if probe == '1' then
        local times = redis.call('HINCRBY', breaker, 'times', 1)
        local wait = math.min(open_ms * 2 ^ math.min(times, 10), longest)
        redis.call('HSET', breaker, 'open_until', now + wait)
        redis.call('HDEL', breaker, 'probing_until')
    elseif redis.call('HEXISTS', breaker, 'open_until') == 0 then
        local bad = redis.call('HINCRBY', breaker, 'bad', 1)
        if bad >= failures then
            redis.call('HSET', breaker, 'open_until', now + open_ms, 'since', now)
            redis.call('HDEL', breaker, 'bad')
            turned = 'opened'
        end
    end
elseif result ~= 'other' or probe == '1' then
    -- Whatever it said, it answered.
    if redis.call('HEXISTS', breaker, 'open_until') == 1 and probe == '1' then
        redis.call('DEL', breaker)
        turned = 'closed'
    elseif redis.call('HEXISTS', breaker, 'bad') == 1 then
        local bad = redis.call('HINCRBY', breaker, 'bad', -1)
        if bad <= 0 then
            redis.call('HDEL', breaker, 'bad')
        end
    end
end
redis.call('PEXPIRE', breaker, keep)
return turned
