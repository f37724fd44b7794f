-- The store has no epoch: it is new, or has lost its data. The first to ask begins a rebuild, the others join it.
-- ARGV: the epoch that it will have if nobody was first, ms after which a rebuild that nobody ends is begun anew.
-- Answers: epoch current | making epoch ms-since (nodes that brought their part)*

local current = call('GET', KEYS[1])
if current then
  return {'epoch', current}
end
local now = now_ms()
call('SET', base .. 'c', ARGV[1] .. ' ' .. text(now), 'NX', 'PX', ARGV[2])
local epoch, begun = string.match(call('GET', base .. 'c'), '^(%S+) (%d+)$')
local answer = {'making', epoch, now - number(begun)}
for _, node in ipairs(call('SMEMBERS', base .. epoch .. ':done')) do
  answer[#answer + 1] = node
end
return answer
