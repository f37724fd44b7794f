-- What stands against fences in their windows: for each (fence, from) settled, reserved and leased.
-- ARGV: epoch, then fence and from of each.
if not in_force(ARGV[1]) then
  return other_epoch()
end
local answer = {'ok'}
for i = 2, #ARGV, 2 do
  local stands = call('HMGET', prefix .. 'b:' .. ARGV[i] .. ':' .. ARGV[i + 1], 's', 'r', 'l')
  for field = 1, 3 do
    answer[#answer + 1] = stands[field] or '0'
  end
end
return answer
