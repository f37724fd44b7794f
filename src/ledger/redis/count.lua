-- For an audit, all of one instant: up to where the books of a node are in, the last row that was told, what is settled,
-- and how much of that an edit has moved there (it stands in the books of the windows that it was placed in).
-- ARGV: epoch, node, then fence and from of each place. Answers: ok position last (settled moved)* | epoch current

if not in_force(ARGV[1]) then
  return other_epoch()
end
local last = call('XREVRANGE', base .. 'rows', '+', '-', 'COUNT', 1)
local answer = {'ok', call('HGET', prefix .. 'pos', ARGV[2]) or '0', last[1] and last[1][1] or ''}
local nodes = call('HKEYS', prefix .. 'pos')
for i = 3, #ARGV, 2 do
  local place, moved = ARGV[i] .. ':' .. ARGV[i + 1], 0
  answer[#answer + 1] = call('HGET', prefix .. 'b:' .. place, 's') or '0'
  if call('EXISTS', prefix .. 'v:' .. ARGV[i]) == 1 then
    for _, node in ipairs(nodes) do
      moved = moved + number(call('HGET', prefix .. 'p:' .. node, 'e:' .. place))
    end
  end
  answer[#answer + 1] = moved
end
return answer
