-- Says which node books the rent of an hour: the first that asks, for as long as its rows may still be looked at. One whose
-- row has not come for long is relieved by the next that asks.
-- ARGV: epoch, hour and backend, node, seconds to remember it, ms after which another may take it over.
-- Answers: ok node | epoch current

if not in_force(ARGV[1]) then
  return other_epoch()
end
local key, now = base .. 'rent:' .. ARGV[2], now_ms()
local node, since = string.match(call('GET', key) or '', '^(%S+) (%d+)$')
if not node or (node ~= ARGV[3] and now - number(since) > tonumber(ARGV[5])) then
  node = ARGV[3]
  call('SET', key, node .. ' ' .. text(now), 'EX', ARGV[4])
end
return {'ok', node}
