-- Which windows run, and by which revision of the policies; what runs as asked gets the cap of the newest revision.
-- ARGV: epoch, revision, then for each: fence, from, to, cap. Answers: ok (running revision)* | epoch current

if not in_force(ARGV[1]) then
  return other_epoch()
end
local answer = {'ok'}
for i = 3, #ARGV, 4 do
  local fence, from, to = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local running = call('GET', prefix .. 'w:' .. fence) or ''
  if running == from .. ':' .. to and call('HGET', prefix .. 'b:' .. fence .. ':' .. from, 'v') then
    standing(fence .. ':' .. from, from, to, ARGV[i + 3], ARGV[2])
  end
  answer[#answer + 1] = running
  answer[#answer + 1] = number(call('GET', prefix .. 'v:' .. fence))
end
return answer
