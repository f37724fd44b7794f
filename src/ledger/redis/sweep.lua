-- Ends holds whose deadline has passed: whoever held them is dead, or cannot reach us. They are charged what they held.
-- ARGV: epoch, how many at most, stream length, ms to remember the ids.
-- Answers: ok (id node about deadline (place kind to charged)*)* | epoch current

if not in_force(ARGV[1]) then
  return other_epoch()
end
local answer = {'ok'}
for _, id in ipairs(call('ZRANGEBYSCORE', prefix .. 'z', '-inf', text(now_ms()), 'LIMIT', 0, ARGV[2])) do
  local key = prefix .. 'r:' .. id
  local fields = call('HGETALL', key)
  if field_of(fields, 'st') == 'open' then
    local node, about = field_of(fields, 'node'), field_of(fields, 'about')
    local deadline = call('ZSCORE', prefix .. 'z', id)
    local swept = {id, node, about, deadline}
    local told = {}
    for place, old in pairs(places_of(fields)) do
      add(place, old.kind, 'r', -old.amount)
      if old.kind ~= 'g' then
        add(place, old.kind, 's', old.amount)
        expire(prefix .. 'b:' .. place, from_of(place), old.to)
      end
      local charged = old.kind ~= 'g' and old.amount or 0
      for _, value in ipairs({place, old.kind, old.to, text(charged)}) do
        swept[#swept + 1] = value
      end
      told[#told + 1] = place .. ' ' .. old.kind .. ' ' .. old.to .. ' ' .. text(charged)
    end
    call('HSET', key, 'st', 'swept')
    call('HDEL', key, 'about')
    -- Kept far longer than a settled id: the owner may come back with the truth after days.
    call('PEXPIRE', key, ARGV[4])
    -- In the same step as the charge, so that it is in the books of every mirror even if this sweeper dies now.
    call('XADD', base .. 'rows', 'MAXLEN', '~', ARGV[3], '*', 'node', node, 'state', 'sweep', 'id', id, 'row', about,
      'places', table.concat(told, '\n'))
    answer[#answer + 1] = swept
  end
  call('ZREM', prefix .. 'z', id)
end
return answer
