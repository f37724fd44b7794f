-- Puts off the deadlines of holds that are still alive.
-- ARGV: epoch, time to live in ms, ids. Answers: ok (ids that were not open any more)* | epoch current

if not in_force(ARGV[1]) then
  return other_epoch()
end
local deadline = text(now_ms() + number(ARGV[2]))
local answer = {'ok'}
for i = 3, #ARGV do
  if call('HGET', prefix .. 'r:' .. ARGV[i], 'st') == 'open' then
    call('ZADD', prefix .. 'z', 'XX', deadline, ARGV[i])
  else
    answer[#answer + 1] = ARGV[i]
  end
end
return answer
