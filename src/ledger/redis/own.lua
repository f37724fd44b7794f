-- The open holds of a node, in pages by deadline.
-- ARGV: epoch, node, where to begin (-inf, or what the last page said), how many are looked at.
-- Answers: ok next (empty: that was all) (id)* | epoch current

if not in_force(ARGV[1]) then
  return other_epoch()
end
local from, most = ARGV[3], tonumber(ARGV[4])
local found = call('ZRANGEBYSCORE', prefix .. 'z', from, '+inf', 'WITHSCORES', 'LIMIT', 0, most)
local answer = {'ok', ''}
if #found == 2 * most then
  -- Some of the last instant may be on the next page; a page of one instant alone would come again for ever.
  local last = found[#found]
  answer[2] = last == from and '(' .. last or last
end
for i = 1, #found, 2 do
  local hold = call('HMGET', prefix .. 'r:' .. found[i], 'st', 'node')
  if hold[1] == 'open' and hold[2] == ARGV[2] then
    answer[#answer + 1] = found[i]
  end
end
return answer
