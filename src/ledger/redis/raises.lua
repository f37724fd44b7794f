-- Tells everybody of the raises that this node knows, and this node of everybody's.
-- ARGV: for each raise: id, the ms at which it ends, the row. Answers: ok (row)*

local raises, now = base .. 'x', now_ms()
for i = 1, #ARGV, 3 do
  if number(ARGV[i + 1]) > now then
    call('HSETNX', raises, ARGV[i], ARGV[i + 1] .. ' ' .. ARGV[i + 2])
  end
end
local answer = {'ok'}
local known = call('HGETALL', raises)
for i = 1, #known, 2 do
  local ends, row = string.match(known[i + 1], '^(%d+) (.*)$')
  if number(ends) > now then
    answer[#answer + 1] = row
  else
    call('HDEL', raises, known[i])
  end
end
return answer
