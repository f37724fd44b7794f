-- What every script begins with.
--
-- KEYS[1] is `{tp:<name>}:e`, which holds the epoch: the name of one continuous set of data. All other keys are derived
-- from it, so they lie in its slot and one script is one atomic step, in a cluster too:
--
--   {tp:<name>}:c                      the rebuild under way: `<epoch> <begun, ms>`
--   {tp:<name>}:n                      hash: node -> `<last heard, ms> <its slices>`
--   {tp:<name>}:rows                   stream: what was settled, for the other nodes' mirrors
--   {tp:<name>}:a, a:at, a:n, a:id     the board: see post.lua
--   {tp:<name>}:h, g                   hashes: node -> what it tells of upstreams, of arms
--   {tp:<name>}:asked                  set: nodes whose sums somebody asks for
--   {tp:<name>}:rent:<hour>:<backend>  the node that books the rent of that hour
--   {tp:<name>}:<epoch>:b:<fence>:<from>   hash: s settled, r reserved, l leased, c cap, v revision of the cap
--   {tp:<name>}:<epoch>:w:<fence>      the running window: `<from>:<to>`, gone when the window ends
--   {tp:<name>}:<epoch>:v:<fence>      the revision of the policies that moved it there by an edit
--   {tp:<name>}:<epoch>:r:<id>         hash of a hold: st state, node, about, and an amount for each place
--   {tp:<name>}:<epoch>:z              sorted set: id -> deadline, ms
--   {tp:<name>}:<epoch>:l:<node>       hash: place -> what the node has leased there; q:<fence> -> its last request
--   {tp:<name>}:<epoch>:pos            hash: node -> position in its journal up to which its settlements are in
--   {tp:<name>}:<epoch>:p:<node>       hash: place -> what a rebuild has brought of this node;
--                                      e:<place> -> what an edit has
--
-- The epoch is part of the names, so what is left of a data set that was lost in part is never read again.
-- A place is `<fence>:<from>`. Its kind is `g` (a gauge: counted while it is held) or
-- another letter, by the unit (counted in a window).

local call = redis.call
local base = string.sub(KEYS[1], 1, -2)
local prefix = base

-- The server's clock decides, never a gateway's.
local function now_ms()
  local time = call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Numbers here are doubles, exact below 2^53, but `..` would write them with 14 digits.
local function text(number)
  return string.format('%.0f', number)
end

local function number(value)
  return tonumber(value or '0') or 0
end

-- Whether `epoch` is the one in force. What was written under another is not to be mixed with this.
local function in_force(epoch)
  prefix = base .. epoch .. ':'
  return epoch ~= '' and call('GET', KEYS[1]) == epoch
end

-- Whether `epoch` is in force, or being rebuilt.
local function in_force_or_making(epoch)
  if in_force(epoch) then
    return true
  end
  local making = call('GET', base .. 'c')
  return making and epoch ~= '' and string.match(making, '^%S+') == epoch
end

local function other_epoch()
  return {'epoch', call('GET', KEYS[1]) or ''}
end

-- A window's counters are kept for 35 times its length, at least an hour and at most 35 days after its end, in case of
-- a late settlement; those of a minute would else fill the memory. An expiry that has passed removes the key at once.
local function expire(key, from, to)
  local length = number(to) - number(from)
  if length > 0 and length < 1e10 then
    call('EXPIREAT', key, text(number(to) + math.min(3024000, math.max(3600, 35 * length))))
  end
end

-- Adds to a counter of a balance. A gauge that nobody holds any more leaves nothing behind.
local function add(place, kind, field, amount)
  if amount == 0 then
    return
  end
  local key = prefix .. 'b:' .. place
  local now = call('HINCRBY', key, field, text(amount))
  if kind == 'g' and now <= 0 then
    local left = call('HMGET', key, 'r', 'l')
    if number(left[1]) <= 0 and number(left[2]) <= 0 then
      call('DEL', key)
    end
  end
end

-- The places in a hold's hash: place -> {kind, to, amount}. Fields with a colon are places.
local function places_of(fields)
  local places = {}
  for i = 1, #fields, 2 do
    if string.find(fields[i], ':', 1, true) then
      local kind, to, amount = string.match(fields[i + 1], '^(%a) (%-?%d+) (%-?%d+)$')
      places[fields[i]] = {kind = kind, to = to, amount = tonumber(amount)}
    end
  end
  return places
end

local function field_of(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then
      return fields[i + 1]
    end
  end
  return ''
end

local function from_of(place)
  return string.match(place, ':(%-?%d+)$')
end
