-- Puts a fence whose period or zone was edited into the window that it now means, which begins with what the books say.
-- ARGV: epoch, fence, from, to, settled. Answers: ok | epoch current

if not in_force(ARGV[1]) then
  return other_epoch()
end
local fence, from, to = ARGV[2], ARGV[3], ARGV[4]
local pointer, key = prefix .. 'w:' .. fence, prefix .. 'b:' .. fence .. ':' .. from
if call('GET', pointer) ~= from .. ':' .. to then
  call('SET', pointer, from .. ':' .. to, 'PXAT', text(number(to) * 1000))
  if not call('HGET', key, 's') then
    call('HINCRBY', key, 's', ARGV[5])
    expire(key, from, to)
  end
end
return {'ok'}
