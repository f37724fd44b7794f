-- Ends holds. A batch goes in as a whole, so a node's settlements can have no gap.
-- ARGV: epoch, node, position that the batch follows (empty: the settlements have no positions), stream length, ms to
-- remember the ids; then for each settlement: position, id, row (empty: it was refused, and is charged nothing), number
-- of places, and for each of these:
-- fence, from, to, kind, charged, moved out of the node's slice.
-- Answers: done (state before)* | behind position | epoch current

local epoch, node, follows, length, remember = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if not in_force(epoch) then
  return other_epoch()
end

-- A node's settlements come in the order of its journal, so one number says which of them are in: after a failover to
-- a replica that lags, it lags with the data, and the node sends again exactly what is missing.
local at = number(call('HGET', prefix .. 'pos', node))
if follows ~= '' and at < tonumber(follows) then
  return {'behind', at}
end

local function free(state, before)
  -- What was held is free again; what a sweep has charged is taken back, since what follows is the truth.
  local counter = state == 'swept' and 's' or 'r'
  for place, old in pairs(before) do
    if not (counter == 's' and old.kind == 'g') then
      add(place, old.kind, counter, -old.amount)
    end
  end
end

local function charge(place, kind, from, to, charged, moved)
  add(place, kind, 's', charged)
  if moved > 0 then
    -- The slice had set this aside already. What is beyond the slice was never leased.
    local slices = prefix .. 'l:' .. node
    moved = math.min(moved, number(call('HGET', slices, place)))
    add(place, kind, 'l', -moved)
    if moved > 0 and call('HINCRBY', slices, place, text(-moved)) == 0 then
      call('HDEL', slices, place)
    end
  end
  expire(prefix .. 'b:' .. place, from, to)
end

-- Settles one; `first` is the index of its first place in ARGV.
local function settle(id, row, position, first, count)
  local key = prefix .. 'r:' .. id
  local fields = call('HGETALL', key)
  local state = field_of(fields, 'st')
  if state == 'settled' then
    return state
  end
  free(state, places_of(fields))
  -- An id that nobody knows was held from a slice, or in a data set that is lost: it is charged all the same.
  local written = {'st', 'settled'}
  for i = first, first + (count - 1) * 6, 6 do
    local fence, from, to, kind, charged = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], tonumber(ARGV[i + 4])
    local place = fence .. ':' .. from
    if kind ~= 'g' then
      charge(place, kind, from, to, charged, tonumber(ARGV[i + 5]))
    end
    written[#written + 1] = place
    written[#written + 1] = kind .. ' ' .. to .. ' ' .. text(kind == 'g' and 0 or charged)
  end
  call('DEL', key)
  call('HSET', key, unpack(written))
  call('PEXPIRE', key, remember)
  call('ZREM', prefix .. 'z', id)
  if row ~= '' then
    -- In the same step, so that a row is in the stream once each.
    call('XADD', base .. 'rows', 'MAXLEN', '~', length, '*', 'node', node, 'state', state, 'after', text(at), 'at', position,
      'row', row)
  elseif state == 'swept' then
    -- It was never dispatched, so its sweep is taken back; every mirror has booked that.
    call('XADD', base .. 'rows', 'MAXLEN', '~', length, '*', 'node', node, 'state', 'freed', 'id', id)
  end
  return state
end

local answer, i = {'done'}, 6
while i <= #ARGV do
  local position, count = ARGV[i], tonumber(ARGV[i + 3])
  if follows ~= '' and tonumber(position) <= at then
    answer[#answer + 1] = 'settled'
  else
    answer[#answer + 1] = settle(ARGV[i + 1], ARGV[i + 2], position, i + 4, count)
    if follows ~= '' then
      at = tonumber(position)
    end
  end
  i = i + 4 + count * 6
end
if follows ~= '' then
  call('HSET', prefix .. 'pos', node, text(at))
end
return answer
