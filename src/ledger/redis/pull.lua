-- What items are new. A gateway that knows another board, or numbers that are still to come, gets all of them.
-- ARGV: the board that it knows, the number up to which it does, how many at most.
-- Answers: board name since upto (name row)*

local board, since = call('GET', base .. 'a:id') or '', tonumber(ARGV[2])
if board ~= ARGV[1] or since > number(call('GET', base .. 'a:n')) then
  since = 0
end
local found = call('ZRANGEBYSCORE', base .. 'a:at', '(' .. text(since), '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local answer = {'board', board, since, since}
for i = 1, #found, 2 do
  answer[4] = tonumber(found[i + 1])
  answer[#answer + 1] = found[i]
  answer[#answer + 1] = call('HGET', base .. 'a', found[i]) or ''
end
return answer
