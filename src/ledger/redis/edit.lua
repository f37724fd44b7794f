-- Moves fences whose period or zone was edited into the windows that they now mean. Each node brings what its requests
-- of such a window were charged in others; it only ever rises, so bringing it twice changes nothing.
-- ARGV: epoch, node, then for each: fence, from, to, cap, revision, what is brought, move (1: it counts there from now
-- on, unless a newer revision says otherwise). Answers: ok | epoch current

local node = ARGV[2]
if not in_force_or_making(ARGV[1]) then
  return other_epoch()
end
local parts, now = prefix .. 'p:' .. node, now_ms()
for i = 3, #ARGV, 7 do
  local fence, from, to, revision = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 4]
  local place = fence .. ':' .. from
  standing(place, from, to, ARGV[i + 3], revision)
  local more = tonumber(ARGV[i + 5]) - number(call('HGET', parts, 'e:' .. place))
  if more > 0 then
    call('HINCRBY', parts, 'e:' .. place, text(more))
    call('PEXPIRE', parts, '3024000000')
    add(place, 'm', 's', more)
    expire(prefix .. 'b:' .. place, from, to)
  end
  local newest = number(call('GET', prefix .. 'v:' .. fence))
  if ARGV[i + 6] == '1' and tonumber(revision) > newest and now < number(to) * 1000 then
    local ends = text(number(to) * 1000)
    call('SET', prefix .. 'w:' .. fence, from .. ':' .. to, 'PXAT', ends)
    call('SET', prefix .. 'v:' .. fence, revision, 'PXAT', ends)
  end
end
return {'ok'}
