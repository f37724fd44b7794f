-- Shared by the scripts that take from a window.

-- What is wrong with a gateway's idea of the running window of `fence`: nil, or the answer. A period or zone that was
-- edited takes effect when the running window ends, so that an edit never resets what was spent.
local function wrong_window(index, fence, from, to, now)
  local running = call('GET', prefix .. 'w:' .. fence)
  if running and running ~= from .. ':' .. to then
    return {'window', index, now, running}
  end
  if now < number(from) * 1000 or now >= number(to) * 1000 then
    return {'window', index, now, ''}
  end
  if not running then
    call('SET', prefix .. 'w:' .. fence, from .. ':' .. to, 'PXAT', text(number(to) * 1000))
  end
  return nil
end

-- What stands in a place, and the cap of the highest revision that anybody brought: two gateways with different
-- policies cannot differ in it.
local function standing(place, from, to, cap, revision)
  local key = prefix .. 'b:' .. place
  local got = call('HMGET', key, 's', 'r', 'l', 'c', 'v')
  local stands = {s = number(got[1]), r = number(got[2]), l = number(got[3]), cap = number(got[4])}
  if not got[5] or number(revision) > number(got[5]) then
    stands.cap = number(cap)
    call('HSET', key, 'c', cap, 'v', revision)
    if not got[1] then
      expire(key, from, to)
    end
  end
  return stands
end
