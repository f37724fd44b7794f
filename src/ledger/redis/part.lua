-- Brings what one node has settled in windows that are still open. A part only ever rises to the highest sum that
-- anybody knows of that node: from its mirrors first, from itself when it comes. Bringing it twice changes nothing.
-- ARGV: epoch, node, position in its journal up to which all of it has been brought with this page (empty: more is to
--       come, or it comes from a mirror), then for each place: fence, from, to, settled. Answers: ok | epoch current

local node, position = ARGV[2], ARGV[3]
if not in_force_or_making(ARGV[1]) then
  return other_epoch()
end
local parts = prefix .. 'p:' .. node
for i = 4, #ARGV, 4 do
  local place = ARGV[i] .. ':' .. ARGV[i + 1]
  local more = tonumber(ARGV[i + 3]) - number(call('HGET', parts, place))
  if more > 0 then
    call('HINCRBY', parts, place, text(more))
    add(place, 'm', 's', more)
    expire(prefix .. 'b:' .. place, ARGV[i + 1], ARGV[i + 2])
  end
end
call('PEXPIRE', parts, '3024000000')
if position ~= '' then
  call('HSET', prefix .. 'pos', node, position)
  call('SADD', prefix .. 'done', node)
  call('PEXPIRE', prefix .. 'done', '3600000')
end
return {'ok'}
