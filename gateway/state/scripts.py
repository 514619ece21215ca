"""The Lua scripts of the Redis store: one for each operation, each atomic.

Everything is in a few keys, so that rows can be counted, and the oldest removed, without looking for them:

- `greylist`: a hash of triplets to "first last expires attempts passes"; `waiting` and `passed` hold the same triplets
  by when they expire. What strangers choose is in `waiting`, and a flood there cannot reach `passed`.
- `exempt`: a hash of identities to "since expires"; `exempt-until` holds the same by when it ends.
- `trusted:IDENTITY`: the triplets that an identity passed with, by when they expire, to count against `TRUSTED_AFTER`.
- `rate`: keys by when all that was allowed would have come at an even pace (GCRA).
- `known`, `unknown`: recipients of backends by until when the answer counts.
- `policy`: a hash of domains to "id text" of their MTA-STS policies; `policy-until` holds the domains by when it ends.
- `sender`: a hash of senders to since when they are known; `sender-until` holds them by when they are forgotten.

`trusted:*` expire by themselves (Redis' clock); all else is removed by `purge`, and beyond the bound at each write.
Numbers are written with 17 digits: Lua's own conversion would round times to a tenth of a millisecond.
"""

_PREFIX = "gatepost:"
GREYLIST = _PREFIX + "greylist"
EXEMPT = _PREFIX + "exempt"
KNOWN = _PREFIX + "known"
UNKNOWN = _PREFIX + "unknown"
#: In this order in `KEYS`; `trusted:` is a prefix.
KEYS = (
    GREYLIST,
    _PREFIX + "waiting",
    _PREFIX + "passed",
    EXEMPT,
    _PREFIX + "trusted:",
    _PREFIX + "rate",
    KNOWN,
    UNKNOWN,
    _PREFIX + "exempt-until",
    _PREFIX + "policy",
    _PREFIX + "policy-until",
    _PREFIX + "sender",
    _PREFIX + "sender-until",
)

_COMMON = """
local GREYLIST, WAITING, PASSED, EXEMPT, TRUSTED = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local RATE, KNOWN, UNKNOWN, UNTIL = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local POLICY, POLICY_UNTIL, SENDER, SENDER_UNTIL = KEYS[10], KEYS[11], KEYS[12], KEYS[13]
local call = redis.call
local function text(number) return string.format('%.17g', number) end

local function row(member)
  local found = call('HGET', GREYLIST, member)
  if not found then return nil end
  local first, last, expires, attempts, passes = string.match(found, '^([%d.e+-]+) (%S+) (%S+) (%S+) (%d+)$')
  if not tonumber(first) or not tonumber(last) or not tonumber(expires) or not tonumber(attempts) then return nil end
  return {first = tonumber(first), last = tonumber(last), expires = tonumber(expires),
    attempts = tonumber(attempts), passes = tonumber(passes)}
end

local function write(member, r)
  call('HSET', GREYLIST, member,
    table.concat({text(r.first), text(r.last), text(r.expires), text(r.attempts), text(r.passes)}, ' '))
  call('ZADD', r.passes > 0 and PASSED or WAITING, text(r.expires), member)
  call('ZREM', r.passes > 0 and WAITING or PASSED, member)
end

-- The set of triplets that an identity passed with: how many are alive.
local function trust(identity, member, expires, now)
  local key = TRUSTED .. identity
  call('ZADD', key, text(expires), member)
  call('ZREMRANGEBYSCORE', key, '-inf', text(now))
  call('PEXPIRE', key, math.ceil(math.max(expires - now, 1) * 1000))
  return call('ZCARD', key)
end

-- Removes a row that is in no index any more.
local function drop(index, hash, member)
  if hash then call('HDEL', hash, member) end
  if index == PASSED then
    local ours, triplet = pcall(cjson.decode, member)
    if ours then call('ZREM', TRUSTED .. tostring(triplet[1]), member) end
  end
end

-- Removes what is beyond the bound, what expires first first; a few at a time, and each write brings one at most.
local function trim(index, hash, rows)
  local over = call('ZCARD', index) - rows
  if over <= 0 then return end
  local gone = call('ZPOPMIN', index, math.min(over, 10))
  for i = 1, #gone, 2 do drop(index, hash, gone[i]) end
end
"""

_GREYLIST = """
local identity, member = ARGV[1], ARGV[2]
local now, wait, window, keep = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local rows, enough, renewal = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])

local function exempt(since)
  call('HSET', EXEMPT, identity, text(since) .. ' ' .. text(now + keep))
  call('ZADD', UNTIL, text(now + keep), identity)
  trim(UNTIL, EXEMPT, rows)
end

local free = call('HGET', EXEMPT, identity)
if free then
  local since, expires = string.match(free, '(%S+) (%S+)')
  since, expires = tonumber(since), tonumber(expires)
  if since and expires and now < expires then
    if now + keep - expires > renewal then exempt(since) end
    return {'1', '0'}
  end
end
local r = row(member)
if not r or r.expires <= now then
  r = {first = now, expires = now + window, attempts = 0, passes = 0}
else
  r.first = math.min(r.first, now)  -- the clock was set back: nobody waits for years
  if r.passes > 0 or r.first + wait <= now then
    r.passes, r.expires = r.passes + 1, now + keep
  end
end
r.last, r.attempts = now, r.attempts + 1
write(member, r)
if r.passes > 0 then
  local trusted = trust(identity, member, r.expires, now)
  if r.passes == 1 and trusted >= enough then exempt(now) end
  trim(PASSED, GREYLIST, rows)
  return {'1', '0'}
end
trim(WAITING, GREYLIST, rows)
return {'0', text(math.max(r.first + wait - now, 0))}
"""

_RELEASE = """
local identity, member, now, keep = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local r = row(member)
if not r or r.passes > 0 or r.expires <= now then return {'0'} end
r.passes, r.expires = 1, now + keep
write(member, r)
trust(identity, member, r.expires, now)
return {'1'}
"""

_FORGET = """
local identity, member = ARGV[1], ARGV[2]
call('ZREM', WAITING, member)
call('ZREM', PASSED, member)
call('ZREM', TRUSTED .. identity, member)
return {tostring(call('HDEL', GREYLIST, member))}
"""

_PARDON = """
call('ZREM', UNTIL, ARGV[1])
call('DEL', TRUSTED .. ARGV[1])
return {tostring(call('HDEL', EXEMPT, ARGV[1]))}
"""

_LIMIT = """
local key, now, step, per, rows = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local due = tonumber(call('ZSCORE', RATE, key) or now)
if due > now + 2 * per + tonumber(ARGV[6]) then due = now end  -- the clock was set back, or the rule was changed
due = math.max(due, now)
if due + step > now + per + step / 1000 then
  return {'0', text(math.max(due + step - now - per, 0))}
end
call('ZADD', RATE, text(due + step), key)
trim(RATE, nil, rows)
return {'1', '0'}
"""

_RECIPIENT = """
local pair, now = ARGV[1], tonumber(ARGV[2])
local yes, no = call('ZSCORE', KNOWN, pair), call('ZSCORE', UNKNOWN, pair)
if yes and tonumber(yes) > now then return {'yes', yes} end
if no and tonumber(no) > now then return {'no', no} end
return {'', ''}
"""

_REMEMBER = """
local pair, answer, till, rows = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
call('ZREM', KNOWN, pair)
call('ZREM', UNKNOWN, pair)
if answer ~= 'forget' then
  local index = answer == 'yes' and KNOWN or UNKNOWN
  call('ZADD', index, text(till), pair)
  trim(index, nil, rows)
end
return {''}
"""

_OMIT = """
local gone = 0
for i = 1, #ARGV do
  gone = gone + call('ZREM', KNOWN, ARGV[i]) + call('ZREM', UNKNOWN, ARGV[i])
end
return {tostring(gone)}
"""

_POLICY = """
local till, found = call('ZSCORE', POLICY_UNTIL, ARGV[1]), call('HGET', POLICY, ARGV[1])
if not till or not found or tonumber(till) <= tonumber(ARGV[2]) then return {'', '', ''} end
local id, text = string.match(found, '^(%S*) (.*)$')
return {id or '', text or '', text and till or ''}
"""

_REMEMBER_POLICY = """
call('HSET', POLICY, ARGV[1], ARGV[2])
call('ZADD', POLICY_UNTIL, ARGV[3], ARGV[1])
trim(POLICY_UNTIL, POLICY, tonumber(ARGV[4]))
return {''}
"""

_SENDER = """
local till, since = call('ZSCORE', SENDER_UNTIL, ARGV[1]), call('HGET', SENDER, ARGV[1])
if not till or not tonumber(since) or tonumber(till) <= tonumber(ARGV[2]) then return {''} end
return {since}
"""

_REMEMBER_SENDER = """
local key, now, keep = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local till, since = call('ZSCORE', SENDER_UNTIL, key), tonumber(call('HGET', SENDER, key)) or now
if not till or tonumber(till) <= now then since = now end
call('HSET', SENDER, key, text(math.min(since, now)))
call('ZADD', SENDER_UNTIL, text(now + keep), key)
trim(SENDER_UNTIL, SENDER, tonumber(ARGV[4]))
return {''}
"""

_PURGE = """
local now, slice, gone = tonumber(ARGV[1]), tonumber(ARGV[2]), 0
local function expire(index, hash)
  local old = call('ZRANGEBYSCORE', index, '-inf', text(now), 'LIMIT', 0, slice)
  for i = 1, #old do
    call('ZREM', index, old[i])
    drop(index, hash, old[i])
  end
  gone = gone + #old
end
expire(WAITING, GREYLIST)
expire(PASSED, GREYLIST)
expire(UNTIL, EXEMPT)
expire(RATE)
expire(KNOWN)
expire(UNKNOWN)
expire(POLICY_UNTIL, POLICY)
expire(SENDER_UNTIL, SENDER)

-- Rows of a hash that no index holds (Redis evicted that key) would stay for ever: some of them each time.
local function sweep(hash, index, other)
  local rows = call('HLEN', hash) - call('ZCARD', index) - (other and call('ZCARD', other) or 0)
  if rows <= 0 then return end
  for _, member in ipairs(call('HRANDFIELD', hash, slice)) do
    if not call('ZSCORE', index, member) and not (other and call('ZSCORE', other, member)) then
      gone = gone + call('HDEL', hash, member)
    end
  end
end
sweep(GREYLIST, WAITING, PASSED)
sweep(EXEMPT, UNTIL)
sweep(POLICY, POLICY_UNTIL)
sweep(SENDER, SENDER_UNTIL)
return {tostring(gone)}
"""

ALL = {
    name: _COMMON + text
    for name, text in {
        "greylist": _GREYLIST,
        "release": _RELEASE,
        "forget": _FORGET,
        "pardon": _PARDON,
        "limit": _LIMIT,
        "recipient": _RECIPIENT,
        "remember": _REMEMBER,
        "omit": _OMIT,
        "policy": _POLICY,
        "remember_policy": _REMEMBER_POLICY,
        "sender": _SENDER,
        "remember_sender": _REMEMBER_SENDER,
        "purge": _PURGE,
    }.items()
}
