-- Puts items up: rows about what operators did, which all gateways are to know. They belong to no epoch.
-- Each goes up only over the row that its gateway has read: what two gateways say of one thing is merged by them.
--
--   {tp:<name>}:a      hash: name of an item -> row
--   {tp:<name>}:a:at   sorted set: name -> its number; numbers grow with every change
--   {tp:<name>}:a:n    the last number
--   {tp:<name>}:a:id   the name of the board: another one is other data
--
-- ARGV: the board's name, should it have none; then for each: name, the row that was read (empty: none), row (empty:
-- it is taken down). Answers: done (name)*, of those over which another row stands.

local answer = {'done'}
call('SET', base .. 'a:id', ARGV[1], 'NX')
for i = 2, #ARGV, 3 do
  local name, before, row = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local stands = call('HGET', base .. 'a', name) or ''
  if stands == before and stands ~= row then
    if row == '' then
      call('HDEL', base .. 'a', name)
      call('ZREM', base .. 'a:at', name)
    else
      call('HSET', base .. 'a', name, row)
      call('ZADD', base .. 'a:at', call('INCR', base .. 'a:n'), name)
    end
  elseif stands ~= row then
    answer[#answer + 1] = name
  end
end
return answer
