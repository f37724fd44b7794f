-- ARGV: epoch, node, position, id, row, stream length, ms to remember the id;
-- then for each place: fence, from, to, kind, charged, leased (1 or 0).
-- Answers: done state | again (place charged)* | epoch current

local epoch, node, position, id = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
if not in_force(epoch) then
  return other_epoch()
end

-- A node's settlements come in the order of its journal, so one number says which of them are in: after a failover to
-- a replica that lags, it lags with the data, and the node sends again exactly what is missing.
if position > 0 then
  if number(call('HGET', prefix .. 'pos', node)) >= position then
    return {'again'}
  end
  call('HSET', prefix .. 'pos', node, text(position))
end

local key = prefix .. 'r:' .. id
local fields = call('HGETALL', key)
local state = field_of(fields, 'st')
local before = places_of(fields)
if state == 'settled' then
  local answer = {'again'}
  for place, old in pairs(before) do
    answer[#answer + 1] = place
    answer[#answer + 1] = old.amount
  end
  return answer
end

-- What was held is free again; what a sweep has charged is taken back, since what follows is the truth.
local counter = state == 'swept' and 's' or 'r'
for place, old in pairs(before) do
  if not (counter == 's' and old.kind == 'g') then
    add(place, old.kind, counter, -old.amount)
  end
end

-- An id that nobody knows was held from a slice, or in a data set that is lost: it is charged all the same.
local written = {'st', 'settled'}
for i = 8, #ARGV, 6 do
  local fence, from, to, kind, charged = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], tonumber(ARGV[i + 4])
  local place = fence .. ':' .. from
  if kind ~= 'g' then
    add(place, kind, 's', charged)
    if ARGV[i + 5] == '1' then
      -- What the slice had set aside is spent now; what is beyond the slice was never leased.
      local moved = math.min(charged, number(call('HGET', prefix .. 'l:' .. node, place)))
      if moved > 0 then
        add(place, kind, 'l', -moved)
        call('HINCRBY', prefix .. 'l:' .. node, place, text(-moved))
      end
    end
    expire(prefix .. 'b:' .. place, from, to)
  else
    charged = 0
  end
  written[#written + 1] = place
  written[#written + 1] = kind .. ' ' .. to .. ' ' .. text(charged)
end
call('DEL', key)
call('HSET', key, unpack(written))
call('PEXPIRE', key, ARGV[7])
call('ZREM', prefix .. 'z', id)
if ARGV[5] ~= '' then
  call('XADD', base .. 'rows', 'MAXLEN', '~', ARGV[6], '*', 'node', node, 'state', state, 'at', ARGV[3], 'row', ARGV[5])
end
return {'done', state}
