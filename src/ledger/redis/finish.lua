-- Everybody who could be heard has brought its part: from now on the store may be spent from.
-- ARGV: epoch. Answers: epoch current

local making = call('GET', base .. 'c')
if not call('GET', KEYS[1]) and making and string.match(making, '^%S+') == ARGV[1] then
  call('SET', KEYS[1], ARGV[1])
  call('DEL', base .. 'c')
end
return other_epoch()
