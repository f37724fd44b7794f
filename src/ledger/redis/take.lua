-- hold, top_up, and holds that are brought again after a loss.
-- ARGV: how (`hold`, `more`, `again`), epoch, id, time to live in ms, node, about;
-- then for each place: fence, from, to, kind, amount, cap, its revision, what raises add to it, binds (1 or 0).
-- Answers: ok now (s r l cap)* | short index used cap | window index now running | ended state | epoch current

local how, epoch, id = ARGV[1], ARGV[2], ARGV[3]
if how == 'again' then
  if not in_force_or_making(epoch) then
    return other_epoch()
  end
elseif not in_force(epoch) then
  return other_epoch()
end

local key = prefix .. 'r:' .. id
local fields = call('HGETALL', key)
local state = field_of(fields, 'st')
if state ~= '' and state ~= 'open' then
  return {'ended', state}
end
local now = now_ms()
local mine = places_of(fields)
-- The same hold once more, after a lost answer: it stands already, so nothing can be short.
local replayed = state == 'open' and how ~= 'more'
local wanted, answer = {}, {'ok', now}

-- Everything is looked at before anything is taken: all places or none.
for i = 7, #ARGV, 9 do
  local fence, from, to, kind, amount = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], tonumber(ARGV[i + 4])
  local index = (i - 7) / 9
  if kind ~= 'g' and not replayed and how ~= 'again' then
    local wrong = wrong_window(index, fence, from, to, now)
    if wrong then
      return wrong
    end
  end
  local place = fence .. ':' .. from
  local stands = standing(place, from, to, ARGV[i + 5], ARGV[i + 6])
  local had = mine[place] and mine[place].amount or 0
  local most = stands.cap + tonumber(ARGV[i + 7])
  local used = stands.s + stands.r + stands.l - had
  if ARGV[i + 8] == '1' and not replayed and used + amount > most then
    return {'short', index, used, most}
  end
  wanted[place] = {kind = kind, to = to, amount = amount}
  local reserved = replayed and stands.r or stands.r - had + amount
  for _, value in ipairs({stands.s, reserved, stands.l, most}) do
    answer[#answer + 1] = value
  end
end

if not replayed then
  for place, old in pairs(mine) do
    if not wanted[place] then
      -- The window that it was taken in has passed, and the whole is taken in the running one.
      add(place, old.kind, 'r', -old.amount)
      call('HDEL', key, place)
    end
  end
  local written = {'st', 'open', 'node', ARGV[5], 'about', ARGV[6]}
  for place, new in pairs(wanted) do
    local had = mine[place] and mine[place].amount or 0
    add(place, new.kind, 'r', new.amount - had)
    written[#written + 1] = place
    written[#written + 1] = new.kind .. ' ' .. new.to .. ' ' .. text(new.amount)
  end
  call('HSET', key, unpack(written))
end
call('ZADD', prefix .. 'z', text(now + number(ARGV[4])), id)
return answer
