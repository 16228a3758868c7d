-- One round trip of one process: corrections first, then as many admissions as fit in the horizon.
--
-- Every limit keeps a virtual time, that of its latest reservation. Reservations are made in the order in which they
-- are asked for and their times never fall, so whether a call fits can only change for the better as time goes on:
-- the first time that suits the first limit and is then moved on by the others suits them all.
--
-- Times are whole microseconds of the server's clock, which is not let go back; amounts are whole numbers below 2^53.
--
-- KEYS[1]      prefix, in braces, so that all keys live on one node of a cluster
-- ARGV         process, horizon, lease time, keep, most, number of limits,
--                per limit: kind ('log', 'bucket', 'fixed', 'slots'), configured, wanted, revision, window, life,
--                  grain, fine, number of turns, the turns (of a fixed window that follows the calendar),
--              number of the batch of corrections, how many they are,
--                per correction: 'settle' limit entry before after | 'late' limit entry by | 'release' limit lease |
--                  'renew' limit lease | 'limit' limit capacity | 'told' limit capacity | 'hold' 0 time
--              number of requests,
--                per request: lease, and its cost on each limit
-- returns      {admitted, microseconds until the next would fit or -1, place of the limit it waits for
--                (0: others come first for a moment; -1: a hold), microseconds of a hold, whether the process was new,
--                per limit: wanted, revision, told, used,
--                per admitted: delay in microseconds, and an entry on each limit}

local prefix = KEYS[1]
local position = 0
local function word()
  position = position + 1
  return ARGV[position]
end
local function number() return tonumber(word()) end

local process, horizon, lease_time = word(), number(), number()
keep = number()
local most = number()

-- When the server's clock is set back, or another server takes over, time goes on from the latest that was seen.
local clock = redis.call('HMGET', prefix .. ':clock', 'latest', 'ahead')
local time = redis.call('TIME')
local latest = tonumber(clock[1]) or 0
ahead = tonumber(clock[2]) or 0
now = time[1] * 1000000 + time[2] + ahead
if now < latest then
  ahead = ahead + latest - now
  now = latest
end
redis.call('HSET', prefix .. ':clock', 'latest', whole(now), 'ahead', whole(ahead))
redis.call('PEXPIRE', prefix .. ':clock', keep)

-- A limit that was changed is kept for a day beyond the last call, and by every process that knows it.
local changes, a_day = prefix .. ':limits', 86400000

local function read_limit(place)
  local limit = {
    kind = word(), configured = word(), wanted = number(), revision = number(), window = number(), life = number(),
    grain = number(), fine = number(), turns = {}, place = place,
  }
  for turn = 1, number() do limit.turns[turn] = number() end
  local base = prefix .. ':' .. place
  limit.state, limit.log, limit.weights, limit.leases =
    base .. ':state', base .. ':log', base .. ':weights', base .. ':leases'
  return limit
end

local function save_change(limit)
  local name = limit.place .. ':' .. limit.configured
  redis.call('HSET', changes, name, whole(limit.wanted), name .. ':at', whole(limit.revision),
    limit.place .. ':told', whole(limit.told))
end

local function set_capacity(limit)
  limit.capacity = limit.wanted
  -- Never above what the user has set, whatever the provider tells.
  if limit.told > 0 then limit.capacity = math.min(limit.told, limit.wanted) end
end

local function load_limit(limit)
  local name = limit.place .. ':' .. limit.configured
  local change = redis.call('HMGET', changes, name, name .. ':at', limit.place .. ':told')
  limit.told = tonumber(change[3]) or 0
  local revision = tonumber(change[2]) or 0
  if revision >= limit.revision then
    limit.wanted, limit.revision = tonumber(change[1]) or tonumber(limit.configured), revision
  else
    save_change(limit)
  end
  set_capacity(limit)
  if limit.kind == 'slots' then
    redis.call('ZREMRANGEBYSCORE', limit.leases, '-inf', now)
    limit.used = redis.call('ZCARD', limit.leases)
    return
  end
  local state = redis.call('HMGET', limit.state, 'at', 'used', 'first', 'next', 'shared', 'odd')
  limit.at = tonumber(state[1]) or 0
  limit.used = tonumber(state[2]) or 0
  limit.first = tonumber(state[3]) or 0      -- log: number of its oldest entry; fixed: when the window began
  limit.next = tonumber(state[4]) or 0       -- log: number of the entry to come
  limit.shared = tonumber(state[5]) or -1    -- log: until when calls share the last entry
  limit.odd = tonumber(state[6]) or 0        -- log: how many entries have a weight other than 1
end

local function save_limit(limit)
  if limit.kind == 'slots' then return end
  redis.call('HSET', limit.state, 'at', whole(limit.at), 'used', whole(limit.used),
    'first', whole(limit.first), 'next', whole(limit.next), 'shared', whole(limit.shared), 'odd', limit.odd)
  redis.call('PEXPIRE', limit.state, keep)
  if limit.kind == 'log' then
    redis.call('PEXPIRE', limit.log, keep)
    redis.call('PEXPIRE', limit.weights, keep)
  end
end

local waiters, living = prefix .. ':waiters', prefix .. ':living'
-- When each waiting process was told to ask again, and how many calls each has had.
local expected, served = prefix .. ':expected', prefix .. ':served'
local pause, patience = 8000, 30000
local new = redis.call('ZADD', living, now, process)
redis.call('PEXPIRE', living, keep)
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', living, '-inf', now - lease_time)) do
  redis.call('ZREM', living, dead)
  redis.call('ZREM', waiters, dead)
  redis.call('ZREM', expected, dead)
  redis.call('HDEL', served, dead)
end

local function tell_waiters()
  for _, other in ipairs(redis.call('ZRANGE', waiters, 0, -1)) do
    if other ~= process then
      local mail = prefix .. ':mail:' .. other
      if redis.call('LLEN', mail) == 0 then
        redis.call('RPUSH', mail, 'look')
        redis.call('PEXPIRE', mail, 5000)
      end
    end
  end
end

local limits = {}
local count = number()
for place = 1, count do limits[place] = read_limit(place) end
for _, limit in ipairs(limits) do load_limit(limit) end

local held = tonumber(redis.call('GET', prefix .. ':hold')) or 0
local news = false
local correct = {
  settle = function(limit)
    local entry, before, after = number(), number(), number()
    return function()
      settle(limit, entry, before, after)
      news = news or after < before
    end
  end,
  late = function(limit)
    local entry, by = number(), number()
    return function() log_late(limit, entry, by) end
  end,
  release = function(limit)
    local lease = word()
    return function()
      news = redis.call('ZREM', limit.leases, lease) == 1 or news
      limit.used = redis.call('ZCARD', limit.leases)
    end
  end,
  -- Also when the lease has run out, or the server has lost its memory: the call runs all the same.
  renew = function(limit)
    local lease = word()
    return function()
      redis.call('ZADD', limit.leases, now + lease_time, lease)
      redis.call('PEXPIRE', limit.leases, math.max(keep, lease_time / 1000))
      limit.used = redis.call('ZCARD', limit.leases)
    end
  end,
  limit = function(limit)
    local capacity = number()
    return function()
      news = true
      limit.wanted, limit.revision = capacity, math.max(now, limit.revision + 1)
      set_capacity(limit)
      save_change(limit)
    end
  end,
  told = function(limit)
    local capacity = number()
    return function()
      news = true
      limit.told = capacity
      set_capacity(limit)
      save_change(limit)
    end
  end,
  hold = function()
    local span = number()
    return function()
      news = true
      held = math.max(held, now + span)
      redis.call('SET', prefix .. ':hold', whole(held), 'PX', math.ceil((held - now) / 1000) + 1)
    end
  end,
}
local batch, corrections = number(), number()
-- Corrections that were not answered are sent again, and must not count twice.
local last_batch = prefix .. ':batch:' .. process
local known = batch <= (tonumber(redis.call('GET', last_batch)) or 0)
for _ = 1, corrections do
  local kind, limit = word(), limits[number()]
  local apply = correct[kind](limit)
  if not known or kind == 'renew' or kind == 'hold' then apply() end
end
if corrections > 0 then redis.call('SET', last_batch, batch, 'PX', keep) end

local waiting = redis.call('ZCARD', waiters)
local ahead_of_me = redis.call('ZRANK', waiters, process)
local sharing = ahead_of_me and waiting or waiting + 1
ahead_of_me = ahead_of_me or waiting

-- While others wait, a process gets no further ahead of the one that has had least than a part of its share.
-- Who was expected to ask and does not is not waited for.
local mine = tonumber(redis.call('HGET', served, process)) or 0
local least
for _, other in ipairs(redis.call('ZRANGEBYSCORE', expected, now - patience, '+inf')) do
  if other ~= process then
    local had = tonumber(redis.call('HGET', served, other)) or 0
    if not least or had < least then least = had end
  end
end

local start = math.max(now, held)
local result, entries = { 0, -1, 0, start - now, new }, {}
local admitted = 0
local requests = number()
local share, narrowest = most, most
for _, limit in ipairs(limits) do
  if limit.kind ~= 'slots' then narrowest = math.min(narrowest, limit.capacity) end
end
if least then
  mine = math.max(mine, least)
  share = math.min(most, least + math.ceil(narrowest / sharing / 4) - mine)
end

for _ = 1, requests do
  local lease = word()
  local costs = {}
  for place = 1, count do costs[place] = number() end
  local at, blocked, heavy = start, 0, false
  for place, limit in ipairs(limits) do
    if costs[place] > limit.capacity then
      -- The limit was lowered; the process learns that now, and refuses the call.
      blocked, heavy = place, true
    elseif limit.kind == 'slots' then
      if limit.used + costs[place] + ahead_of_me > limit.capacity then
        blocked = place
        local first = redis.call('ZRANGE', limit.leases, 0, 0, 'WITHSCORES')
        at = math.max(at, math.min(tonumber(first[2]) or now, now + lease_time / 3), now + 1000)
      end
    else
      at = math.max(at, limit.at)
    end
  end
  if blocked > 0 then
    result[2], result[3] = heavy and 0 or at - now, blocked
    break
  end
  local longest, exact = start, true
  blocked = start > now and -1 or 1
  for place, limit in ipairs(limits) do
    if limit.kind ~= 'slots' then
      local sure
      at, sure = fits_at(limit, at, costs[place])
      exact = exact and sure
      if at > longest then longest, blocked = at, place end
    end
  end
  if at > now + horizon or not exact then
    result[2], result[3] = exact and at - now or math.max(at - now, 1000), blocked
    break
  end
  if admitted >= share then
    result[2] = admitted < most and pause or 0
    break
  end
  admitted = admitted + 1
  entries[#entries + 1] = at - now
  for place, limit in ipairs(limits) do
    if limit.kind == 'slots' then
      redis.call('ZADD', limit.leases, at + lease_time, lease)
      redis.call('PEXPIRE', limit.leases, math.max(keep, lease_time / 1000))
      limit.used = limit.used + costs[place]
      entries[#entries + 1] = 0
    else
      entries[#entries + 1] = take(limit, at, costs[place])
      limit.at = math.max(limit.at, at)
    end
  end
end
result[1] = admitted

if least then redis.call('HSET', served, process, mine + admitted) else redis.call('DEL', served) end
if admitted < requests then
  redis.call('ZADD', waiters, 'NX', now, process)
  if admitted > 0 then redis.call('ZADD', waiters, 'XX', now, process) end
  redis.call('ZADD', expected, now + result[2], process)
else
  redis.call('ZREM', waiters, process)
  redis.call('ZREM', expected, process)
end
for _, key in ipairs({ waiters, expected, served }) do redis.call('PEXPIRE', key, keep) end
redis.call('PEXPIRE', changes, math.max(keep, a_day))
for _, limit in ipairs(limits) do
  for _, fact in ipairs({ limit.wanted, limit.revision, limit.told, usage(limit) }) do result[#result + 1] = fact end
  save_limit(limit)
end
for _, entry in ipairs(entries) do result[#result + 1] = entry end
if news then tell_waiters() end
return result
