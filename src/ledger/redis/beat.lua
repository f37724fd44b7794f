-- A node's sign of life. What the others lease is told to everybody, who keep it in memory: should the store lose its
-- data, the slices of a node that does not answer count as spent.
-- ARGV: node, its slices as text, ms after which a silent node is forgotten.
-- Answers: ok epoch now position (node, ms since it was heard, its slices)*

local nodes, now = base .. 'n', now_ms()
local epoch = call('GET', KEYS[1]) or ''
prefix = base .. epoch .. ':'
call('HSET', nodes, ARGV[1], text(now) .. ' ' .. ARGV[2])
local answer = {'ok', epoch, now, call('HGET', prefix .. 'pos', ARGV[1]) or ''}
local known = call('HGETALL', nodes)
for i = 1, #known, 2 do
  local heard, slices = string.match(known[i + 1], '^(%d+) (.*)$')
  local silent = now - number(heard)
  if silent > number(ARGV[3]) and slices == '' then
    call('HDEL', nodes, known[i])
  else
    answer[#answer + 1] = known[i]
    answer[#answer + 1] = silent
    answer[#answer + 1] = slices
  end
end
return answer
