-- Grants a node a slice of a place, or takes some of it back from its owner. What is leased counts as used for
-- everybody else until the owner has settled or returned it: a lease can strand an amount, never overspend it.
-- ARGV: epoch, node, fence, from, to, kind, cap, revision, number of the request, wanted (negative: returned),
--       share of what is left in parts per million, least, what raises add to the cap.
-- Answers: ok granted left | window 0 now running | epoch current

local node, fence, from, to, kind = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if not in_force(ARGV[1]) then
  return other_epoch()
end
local place, slices = fence .. ':' .. from, prefix .. 'l:' .. node

-- The answer to the last request may have been lost on its way.
local last = call('HGET', slices, 'q:' .. fence)
if last then
  local request, granted, left = string.match(last, '^(%S+) (%S+) (%S+)$')
  if request == ARGV[9] then
    return {'ok', tonumber(granted), tonumber(left)}
  end
end

local wanted, granted, left = tonumber(ARGV[10]), 0, 0
if wanted < 0 then
  granted = -math.min(-wanted, number(call('HGET', slices, place)))
else
  if kind ~= 'g' then
    local wrong = wrong_window(0, fence, from, to, now_ms())
    if wrong then
      return wrong
    end
  end
  local stands = standing(place, from, to, ARGV[7], ARGV[8])
  left = math.max(0, stands.cap + tonumber(ARGV[13]) - stands.s - stands.r - stands.l)
  granted = math.min(wanted, math.floor(left / 1000000 * number(ARGV[11])), left)
  if granted < number(ARGV[12]) then
    granted = 0
  end
end
if granted ~= 0 then
  add(place, kind, 'l', granted)
  if call('HINCRBY', slices, place, text(granted)) <= 0 then
    call('HDEL', slices, place)
  end
end
call('HSET', slices, 'q:' .. fence, ARGV[9] .. ' ' .. text(granted) .. ' ' .. text(left - granted))
return {'ok', granted, left - granted}
