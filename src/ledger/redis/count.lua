-- For an audit, all of one instant: up to where the books of a node are in, the last row that was told, what is settled.
-- ARGV: epoch, node, then fence and from of each place. Answers: ok position last settled* | epoch current

if not in_force(ARGV[1]) then
  return other_epoch()
end
local last = call('XREVRANGE', base .. 'rows', '+', '-', 'COUNT', 1)
local answer = {'ok', call('HGET', prefix .. 'pos', ARGV[2]) or '0', last[1] and last[1][1] or ''}
for i = 3, #ARGV, 2 do
  answer[#answer + 1] = call('HGET', prefix .. 'b:' .. ARGV[i] .. ':' .. ARGV[i + 1], 's') or '0'
end
return answer
