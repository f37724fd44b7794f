-- Says which node books the rent of an hour: the first that asks, for as long as its rows may still be looked at.
-- ARGV: epoch, hour and backend, node, seconds to remember it. Answers: ok node | epoch current

if not in_force(ARGV[1]) then
  return other_epoch()
end
local key = base .. 'rent:' .. ARGV[2]
call('SET', key, ARGV[3], 'NX', 'EX', ARGV[4])
return {'ok', call('GET', key)}
