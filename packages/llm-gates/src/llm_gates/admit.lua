-- One round trip of one process: corrections first, then as many admissions as fit in the horizon.
--
-- Every limit keeps a virtual time, that of its latest reservation. Reservations are made in the order in which they
-- are asked for and their times never fall, so whether a call fits can only change for the better as time goes on:
-- the first time that suits the first limit and is then moved on by the others suits them all.
--
-- Times are whole microseconds of the server's clock; amounts are whole numbers below 2^53.
--
-- KEYS[1]      prefix, in braces, so that all keys live on one node of a cluster
-- ARGV         process, horizon, lease time, keep, most, number of limits,
--                per limit: kind ('log', 'bucket', 'fixed', 'slots'), capacity, window, life, grain,
--              number of corrections,
--                per correction: 'settle' limit entry before after | 'late' limit entry by | 'release' limit lease | 'renew' limit lease
--              number of requests,
--                per request: lease, and its cost on each limit
-- returns      {admitted, microseconds until the next would fit or -1, place of the limit it waits for,
--                (0: others come first for a moment),
--                per admitted: delay in microseconds, and an entry on each limit}

local prefix = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local position = 0
local function word()
  position = position + 1
  return ARGV[position]
end
local function number() return tonumber(word()) end

local process, horizon, lease_time, keep, most = word(), number(), number(), number(), number()
local limits = {}

local function load_limit(place)
  local limit = { kind = word(), capacity = number(), window = number(), life = number(), grain = number() }
  local base = prefix .. ':' .. place
  limit.state, limit.log, limit.weights, limit.leases =
    base .. ':state', base .. ':log', base .. ':weights', base .. ':leases'
  if limit.kind == 'slots' then
    redis.call('ZREMRANGEBYSCORE', limit.leases, '-inf', now)
    limit.used = redis.call('ZCARD', limit.leases)
  else
    local state = redis.call('HMGET', limit.state, 'at', 'used', 'first', 'next', 'shared', 'odd')
    limit.at = tonumber(state[1]) or 0
    limit.used = tonumber(state[2]) or 0
    limit.first = tonumber(state[3]) or 0      -- log: number of its oldest entry; fixed: number of the window
    limit.next = tonumber(state[4]) or 0       -- log: number of the entry to come
    limit.shared = tonumber(state[5]) or -1    -- log: until when calls share the last entry
    limit.odd = tonumber(state[6]) or 0        -- log: how many entries have a weight other than 1
  end
  return limit
end

local function save_limit(limit)
  if limit.kind == 'slots' then return end
  redis.call('HSET', limit.state, 'at', string.format('%.0f', limit.at), 'used', string.format('%.0f', limit.used),
    'first', limit.first, 'next', limit.next, 'shared', string.format('%.0f', limit.shared), 'odd', limit.odd)
  redis.call('PEXPIRE', limit.state, keep)
  if limit.kind == 'log' then
    redis.call('PEXPIRE', limit.log, keep)
    redis.call('PEXPIRE', limit.weights, keep)
  end
end

-- ---------------------------------------------------------------- sliding log
local function weight_of(limit, entry)
  if limit.odd == 0 then return 1 end
  return tonumber(redis.call('HGET', limit.weights, entry)) or 1
end

local function set_weight(limit, entry, weight)
  local known = redis.call('HEXISTS', limit.weights, entry) == 1
  if known or weight ~= 1 then
    redis.call('HSET', limit.weights, entry, weight)
    if not known then limit.odd = limit.odd + 1 end
  end
end

local function expire_log(limit, at)
  while true do
    local oldest = tonumber(redis.call('LINDEX', limit.log, 0))
    if not oldest or oldest + limit.life > at then break end
    redis.call('LPOP', limit.log)
    limit.used = limit.used - weight_of(limit, limit.first)
    if limit.odd > 0 then limit.odd = limit.odd - redis.call('HDEL', limit.weights, limit.first) end
    limit.first = limit.first + 1
  end
end

local function log_fits_at(limit, at, cost)
  -- Nothing expires before its time only because another limit would make this call wait longer.
  expire_log(limit, math.max(now, limit.at))
  local missing = limit.used + cost - limit.capacity
  local from, latest = 0, at
  while missing > 0 do
    local stamps = redis.call('LRANGE', limit.log, from, from + 31)
    if #stamps == 0 then return latest end
    for place, stamp in ipairs(stamps) do
      missing = missing - weight_of(limit, limit.first + from + place - 1)
      -- A call that left late may stand before others that are older.
      latest = math.max(latest, tonumber(stamp) + limit.life)
      if missing <= 0 then return latest end
    end
    from = from + #stamps
  end
  return latest
end

local function log_take(limit, at, cost)
  expire_log(limit, at)
  limit.used = limit.used + cost
  if at < limit.shared and limit.next > limit.first then
    local last = limit.next - 1
    set_weight(limit, last, weight_of(limit, last) + cost)
    redis.call('LSET', limit.log, -1, string.format('%.0f', at))
    return last
  end
  local entry = limit.next
  limit.next = entry + 1
  redis.call('RPUSH', limit.log, string.format('%.0f', at))
  set_weight(limit, entry, cost)
  if limit.grain > 0 then limit.shared = at + limit.grain end
  return entry
end

local function log_settle(limit, entry, before, after)
  if entry >= limit.first and entry < limit.next then
    set_weight(limit, entry, weight_of(limit, entry) + after - before)
    limit.used = limit.used + after - before
  end
end

local function log_late(limit, entry, by)
  local place = entry - limit.first
  local stamp = place >= 0 and redis.call('LINDEX', limit.log, place)
  if stamp then redis.call('LSET', limit.log, place, string.format('%.0f', tonumber(stamp) + by)) end
end

-- --------------------------------------------------------------- token bucket
-- `used` is the debt times the window; it shrinks by the capacity in each microsecond.
local function debt_at(limit, at)
  return math.max(limit.used - math.max(at - limit.at, 0) * limit.capacity, 0)
end

local function leak(limit, at)
  limit.used = debt_at(limit, at)
  limit.at = math.max(limit.at, at)
end

local function bucket_fits_at(limit, at, cost)
  local debt = debt_at(limit, at)
  local lag = (limit.life - limit.window) * limit.capacity
  local over = debt + cost * limit.window + lag - limit.capacity * limit.window
  if over <= 0 or debt == 0 then return at end
  return at + math.ceil(math.min(over, debt) / limit.capacity)
end

local function bucket_settle(limit, entry, before, after)
  leak(limit, math.max(now, limit.at))
  local change = (after - before) * limit.window
  if change < 0 then
    -- What may have been paid back in the meantime is not given twice.
    change = math.min(change + math.max(now - entry, 0) * limit.capacity, 0)
  end
  limit.used = math.max(limit.used + change, 0)
end

-- --------------------------------------------------------------- fixed window
local function turn(limit, at)
  local window = math.floor(at / limit.window)
  if window > limit.first then
    limit.first = window
    limit.used = 0
  end
end

local function fixed_fits_at(limit, at, cost)
  if math.floor(at / limit.window) > limit.first or limit.used + cost <= limit.capacity then return at end
  return (limit.first + 1) * limit.window
end

local function fits_at(limit, at, cost)
  if limit.kind == 'log' then return log_fits_at(limit, at, cost) end
  if limit.kind == 'bucket' then return bucket_fits_at(limit, at, cost) end
  return fixed_fits_at(limit, at, cost)
end

local function take(limit, at, cost)
  if limit.kind == 'log' then return log_take(limit, at, cost) end
  if limit.kind == 'bucket' then
    leak(limit, at)
    limit.used = limit.used + cost * limit.window
    return at
  end
  turn(limit, at)
  limit.used = limit.used + cost
  return limit.first
end

local function settle(limit, entry, before, after)
  if limit.kind == 'log' then
    log_settle(limit, entry, before, after)
  elseif limit.kind == 'bucket' then
    bucket_settle(limit, entry, before, after)
  else
    turn(limit, math.max(now, limit.at))
    if entry == limit.first then limit.used = limit.used + after - before end
  end
end

-- ---------------------------------------------------------------- the waiting
local waiters, living = prefix .. ':waiters', prefix .. ':living'
-- When each waiting process was told to ask again, and how many calls each has had.
local expected, served = prefix .. ':expected', prefix .. ':served'
local pause, patience = 8000, 30000
redis.call('ZADD', living, now, process)
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

local count = number()
for place = 1, count do limits[place] = load_limit(place) end

local freed = false
for _ = 1, number() do
  local what, limit = word(), limits[number()]
  if what == 'settle' then
    local entry, before, after = number(), number(), number()
    settle(limit, entry, before, after)
    freed = freed or after < before
  elseif what == 'late' then
    local entry, by = number(), number()
    log_late(limit, entry, by)
  elseif what == 'release' then
    freed = redis.call('ZREM', limit.leases, word()) == 1 or freed
    limit.used = redis.call('ZCARD', limit.leases)
  else
    redis.call('ZADD', limit.leases, 'XX', now + lease_time, word())
    redis.call('PEXPIRE', limit.leases, math.max(keep, lease_time / 1000))
  end
end

local waiting = redis.call('ZCARD', waiters)
local ahead = redis.call('ZRANK', waiters, process)
local sharing = ahead and waiting or waiting + 1
ahead = ahead or waiting

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

local result = { 0, -1, 0 }
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
  local at, blocked = now, 0
  for place, limit in ipairs(limits) do
    if limit.kind == 'slots' then
      if limit.used + costs[place] + ahead > limit.capacity then
        blocked = place
        local first = redis.call('ZRANGE', limit.leases, 0, 0, 'WITHSCORES')
        at = math.max(at, math.min(tonumber(first[2]) or now, now + lease_time / 3), now + 1000)
      end
    else
      at = math.max(at, limit.at)
    end
  end
  if blocked > 0 then
    result[2], result[3] = at - now, blocked
    break
  end
  local longest = now
  for place, limit in ipairs(limits) do
    if limit.kind ~= 'slots' then
      at = fits_at(limit, at, costs[place])
      if at > longest then longest, blocked = at, place end
    end
  end
  if at > now + horizon then
    result[2], result[3] = at - now, math.max(blocked, 1)
    break
  end
  if admitted >= share then
    result[2] = admitted < most and pause or 0
    break
  end
  admitted = admitted + 1
  result[#result + 1] = at - now
  for place, limit in ipairs(limits) do
    if limit.kind == 'slots' then
      redis.call('ZADD', limit.leases, at + lease_time, lease)
      redis.call('PEXPIRE', limit.leases, math.max(keep, lease_time / 1000))
      limit.used = limit.used + costs[place]
      result[#result + 1] = 0
    else
      result[#result + 1] = take(limit, at, costs[place])
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
for _, limit in ipairs(limits) do save_limit(limit) end
if freed then tell_waiters() end
return result
