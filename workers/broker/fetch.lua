-- Takes messages as dramatiq's own dispatch.lua does, and tells the id of each.
-- KEYS: the namespace. ARGV: the queue, the worker's id, now (Unix ms), how many at most.
-- Returns two lists: the ids, and under the same places the messages (nil for one that is gone).
local queue = KEYS[1] .. ':' .. ARGV[1]
local taken = KEYS[1] .. ':__acks__.' .. ARGV[2] .. '.' .. ARGV[1]
redis.call('ZADD', KEYS[1] .. ':__heartbeats__', ARGV[3], ARGV[2])
local ids, messages = {}, {}
for place = 1, tonumber(ARGV[4]) do
  local id = redis.call('LPOP', queue)
  if not id then
    break
  end
  redis.call('SADD', taken, id)
  ids[place] = id
  messages[place] = redis.call('HGET', queue .. '.msgs', id)
end
return {ids, messages}
