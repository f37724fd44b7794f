-- Sets what a node has leased to what it says itself, everywhere: after it restarted (nothing, once its journal is in),
-- after the store lost what it had granted, or for a node that is gone, by those who remember its slices.
-- ARGV: epoch, node, then for each slice: fence, from, to, kind, amount. Answers: ok | epoch current

local node = ARGV[2]
if not in_force_or_making(ARGV[1]) then
  return other_epoch()
end
local slices = prefix .. 'l:' .. node
local said = {}
for i = 3, #ARGV, 5 do
  said[ARGV[i] .. ':' .. ARGV[i + 1]] =
    {from = ARGV[i + 1], to = ARGV[i + 2], kind = ARGV[i + 3], amount = tonumber(ARGV[i + 4])}
end
local known = call('HGETALL', slices)
for i = 1, #known, 2 do
  local place = known[i]
  if string.sub(place, 1, 2) ~= 'q:' and not said[place] then
    local kind = from_of(place) == '0' and 'g' or 'm'
    add(place, kind, 'l', -number(known[i + 1]))
    call('HDEL', slices, place)
  end
end
for place, slice in pairs(said) do
  local change = slice.amount - number(call('HGET', slices, place))
  add(place, slice.kind, 'l', change)
  call('HSET', slices, place, text(slice.amount))
  if slice.kind ~= 'g' then
    expire(prefix .. 'b:' .. place, slice.from, slice.to)
  end
end
return {'ok'}
