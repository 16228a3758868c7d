-- The kinds of limits as they stand in Redis; admit.lua follows in the same script.
--
-- fits_at says when a call would fit, take counts it at that time and returns its entry, settle corrects it.

-- The time, by how much it is ahead of the server's clock, and for how many milliseconds keys are kept.
local now, ahead, keep

local function whole(value) return string.format('%.0f', value) end

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

-- How many entries are looked at for one call, whatever it weighs; what is found then may be too early.
local look = 256

-- Returns when the call fits, and whether that is exact.
local function log_fits_at(limit, at, cost)
  -- Nothing expires before its time only because another limit would make this call wait longer.
  expire_log(limit, math.max(now, limit.at))
  local missing = limit.used + cost - limit.capacity
  if missing <= 0 then return at, true end
  local from, fits, chunk = 0, at, 32
  while from < look do
    local stamps = redis.call('LRANGE', limit.log, from, from + chunk - 1)
    if #stamps == 0 then return fits, true end
    local weights
    if limit.odd > 0 then
      local entries = {}
      for place = 1, #stamps do entries[place] = limit.first + from + place - 1 end
      weights = redis.call('HMGET', limit.weights, (unpack or table.unpack)(entries))
    end
    for place, stamp in ipairs(stamps) do
      missing = missing - (weights and tonumber(weights[place]) or 1)
      -- A call that left late may stand before others that are older.
      fits = math.max(fits, tonumber(stamp) + limit.life)
      if missing <= 0 then return fits, true end
    end
    from = from + #stamps
  end
  return fits, false
end

local function log_take(limit, at, cost)
  expire_log(limit, at)
  limit.used = limit.used + cost
  if at < limit.shared and limit.next > limit.first then
    local last = limit.next - 1
    set_weight(limit, last, weight_of(limit, last) + cost)
    redis.call('LSET', limit.log, -1, whole(at))
    return last
  end
  local entry = limit.next
  limit.next = entry + 1
  redis.call('RPUSH', limit.log, whole(at))
  set_weight(limit, entry, cost)
  if limit.next - limit.first > limit.fine then limit.shared = at + limit.grain end
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
  if stamp then redis.call('LSET', limit.log, place, whole(tonumber(stamp) + by)) end
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
-- Windows turn by the server's own clock, or by the turns that the process told.
local function bounds(limit, at)
  local wall, turns = at - ahead, limit.turns
  if #turns == 0 then
    local from = wall - wall % limit.window
    return from, from + limit.window
  end
  for turn = 2, #turns do
    if wall < turns[turn] then return turns[turn - 1], turns[turn] end
  end
  return turns[#turns], turns[#turns] + limit.window
end

local function turn(limit, at)
  local from = bounds(limit, at)
  if from > limit.first then limit.used = 0 end
  limit.first = from
end

local function fixed_fits_at(limit, at, cost)
  local from, till = bounds(limit, at)
  if at - ahead >= till - (limit.life - limit.window) then
    -- What leaves now might arrive after the turn.
    at = till + ahead
    from, till = bounds(limit, at)
  end
  if from > limit.first or limit.used + cost <= limit.capacity then return at end
  return till + ahead
end

-- ------------------------------------------------------------------- any rate
local function fits_at(limit, at, cost)
  if limit.kind == 'log' then return log_fits_at(limit, at, cost) end
  if limit.kind == 'bucket' then return bucket_fits_at(limit, at, cost), true end
  return fixed_fits_at(limit, at, cost), true
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

local function usage(limit)
  if limit.kind == 'bucket' then return math.ceil(debt_at(limit, now) / limit.window) end
  if limit.kind == 'fixed' then turn(limit, math.max(now, limit.at)) end
  return limit.used
end
