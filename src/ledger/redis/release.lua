-- Gives back what a node leases that is gone. Only who knows that it spends nothing of it any more may say so.
-- ARGV: epoch, node, ms for which it must have been silent.
-- Answers: ok (place amount)* | heard <ms ago> | epoch current

if not in_force(ARGV[1]) then
  return other_epoch()
end
local node, nodes = ARGV[2], base .. 'n'
local known = call('HGET', nodes, node)
local heard = known and number(string.match(known, '^(%d+)'))
if heard and now_ms() - heard < tonumber(ARGV[3]) then
  return {'heard', now_ms() - heard}
end
local slices, answer = prefix .. 'l:' .. node, {'ok'}
local leased = call('HGETALL', slices)
for i = 1, #leased, 2 do
  local place, amount = leased[i], number(leased[i + 1])
  if string.sub(place, 1, 2) ~= 'q:' then
    add(place, from_of(place) == '0' and 'g' or 'm', 'l', -amount)
    answer[#answer + 1] = place
    answer[#answer + 1] = amount
  end
end
call('DEL', slices)
if heard then
  -- Else the others would count them again, should the store lose its data.
  call('HSET', nodes, node, text(heard) .. ' ')
end
return answer
