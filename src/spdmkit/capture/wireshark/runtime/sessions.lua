-- Sessions: the secrets of a key log, and the records that they open.

local sub, format, byte = string.sub, string.format, string.byte

-- the key log (docs/reference/keylog.md) -----------------------------------------------------------

S.secrets = {}

local GENERATIONS = { REQUEST_DATA_SECRET = true, RESPONSE_DATA_SECRET = true }

-- read all lines of a key log; a file that cannot be read holds no secrets
function S.load_key_log(path)
    S.secrets = {}
    if not path or path == "" then return end
    local file = io.open(path, "r")
    if not file then return end
    for line in file:lines() do
        local label, request, response, secret =
            line:gsub("#.*", ""):match("^%s*(%S+)%s+(%S+)%s+(%S+)%s+(%x+)%s*$")
        if label then
            local name, generation = label:match("^(.-)_(%d+)$")
            if not GENERATIONS[name or ""] then name, generation = label, nil end
            local key = request:lower() .. " " .. response:lower()
            local known = S.secrets[key] or {}
            S.secrets[key] = known
            if generation then
                known[name] = known[name] or {}
                known[name][tonumber(generation)] = S.bytes(secret)
            else
                known[name] = S.bytes(secret)
            end
        end
    end
    file:close()
end

local function random_of(text)
    return text == "" and "-" or S.hex(text)
end

-- streams: one direction under one key -------------------------------------------------------------

local function stream(session, secret, generation)
    return secret and { session = session, secret = secret, generation = generation, sequence = 0 }
end

local function open_under(one, sequence, sealed, associated)
    local session = one.session
    local cipher, hash = S.ciphers[session.aead or ""], S.hashes[session.hash or ""]
    if not cipher or not hash then return nil end
    if not one.key then
        one.key = S.derive(hash, one.secret, session.version, "key", cipher.key)
        one.iv = S.derive(hash, one.secret, session.version, "iv", 12)
    end
    return cipher.open(one.key, S.nonce(one.iv, sequence), sealed, associated)
end

local function updated(session, party, one)
    local name = party == "requester" and "REQUEST_DATA_SECRET" or "RESPONSE_DATA_SECRET"
    local logged = session.known and session.known[name]
    local secret = logged and logged[one.generation + 1]
    local hash = S.hashes[session.hash or ""]
    if not secret and hash then
        secret = S.derive(hash, one.secret, session.version, "traffic upd", hash.size)
    end
    return stream(session, secret, one.generation + 1)
end

-- sessions -----------------------------------------------------------------------------------------

-- A session, from the response that begins it; the two random values name it in the key log.
function S.new_session(conversation, id, request_random, response_random, psk)
    local session = {
        id = id, psk = psk, established = false,
        version = conversation.context.version,
        clear = conversation.context.handshake_in_the_clear and not psk,
        encrypt = conversation.encrypts,
        hash = conversation.hash, aead = conversation.aead,
        known = S.secrets[random_of(request_random) .. " " .. random_of(response_random)],
        streams = {},
    }
    if session.known then
        session.streams.requester = stream(session, session.known.REQUEST_HANDSHAKE_SECRET, 0)
        session.streams.responder = stream(session, session.known.RESPONSE_HANDSHAKE_SECRET, 0)
    end
    return session
end

local function first_generation(secrets)
    local first
    for generation in pairs(secrets or {}) do
        if not first or generation < first then first = generation end
    end
    return first
end

-- the handshake is over: go on with the data keys
function S.establish(session)
    session.established = true
    session.streams = {}
    if not session.known then return end
    for party, name in pairs({ requester = "REQUEST_DATA_SECRET",
        responder = "RESPONSE_DATA_SECRET" }) do
        local secrets = session.known[name]
        local first = first_generation(secrets)
        if first then session.streams[party] = stream(session, secrets[first], first) end
    end
end

-- why records cannot be opened, nil when they might
function S.closed_because(session)
    if not session then return "the beginning of this session is not in the capture" end
    if not session.known then return "no secret of this session is in the key log" end
    if not S.hashes[session.hash or ""] then
        return format("%s cannot be computed here: see spdm decode", session.hash or "the hash")
    end
    if not S.ciphers[session.aead or ""] then
        return format("%s cannot be opened here: see spdm decode", session.aead or "the AEAD")
    end
    return nil
end

-- records ------------------------------------------------------------------------------------------

local LOOK_AHEAD = 8

-- Where the parts of a record are: session, sequence number, Length, what it protects.
--
-- Records of an MCTP device keep their form when a proxy carries them over TCP, so that the lengths
-- decide where they can.
function S.record_layout(record, transport)
    local size = #record
    if size < 22 then return nil end
    local function fits(sequence) return S.integer(record, 4 + sequence, 2) == size - 6 - sequence end
    local sequence = transport == "mctp" and 2 or 0
    if transport ~= "doe" and not fits(sequence) and fits(2 - sequence) then
        sequence = 2 - sequence
    end
    local head = 6 + sequence
    local length = S.integer(record, head - 2, 2)
    if length < 16 or head + length > size then return nil end
    return {
        session = S.integer(record, 0, 4), sequence_size = sequence, head = head,
        length = length, stop = head + length,
    }
end

local function under(session, one, sequence, record, layout)
    local head, stop = layout.head, layout.stop
    if not session.encrypt then
        local cut = stop - 16
        local tag = sub(record, cut + 1, stop)
        if open_under(one, sequence, tag, sub(record, 1, cut)) then
            return sub(record, head + 1, cut)
        end
        return nil
    end
    local body = open_under(one, sequence, sub(record, head + 1, stop), sub(record, 1, head))
    if not body then return nil end
    local length = S.integer(body, 0, 2)
    if #body < 2 or 2 + length > #body then return nil end
    return sub(body, 3, 2 + length)
end

local function try(session, party, record, layout)
    local one = session.streams[party]
    if not one then return nil end
    local start, told = one.sequence, nil
    local size = layout.sequence_size
    if size > 0 then
        told = S.integer(record, 4, size)
        start = start + (told - start) % 256 ^ size
    end
    local plain = under(session, one, start, record, layout)
    if plain then
        one.sequence = start + 1
        return plain
    end
    local following = session.established and updated(session, party, one)
    for gap = 0, size > 0 and 0 or LOOK_AHEAD - 1 do
        if following then
            local sequence = (told or 0) + gap
            plain = under(session, following, sequence, record, layout)
            if plain then
                following.sequence = sequence + 1
                session.streams[party] = following
                return plain, format("%s's keys were updated", party)
            end
        end
        plain = size == 0 and under(session, one, start + gap + 1, record, layout)
        if plain then
            one.sequence = start + gap + 2
            return plain, format("%d records before it are not in the capture", gap + 1)
        end
    end
    return nil
end

-- Open a record. Gives the plaintext and who sent it; a note; or nil and why not.
function S.open_record(session, parties, record, layout)
    for _, party in ipairs(parties) do
        local plain, note = try(session, party, record, layout)
        if plain then return plain, party, note end
    end
    if not session.encrypt then
        -- what is only authenticated can be read by everybody
        local note = "not encrypted; the tag was not checked"
        if session.streams[parties[1]] then note = "the tag does not match" end
        return sub(record, layout.head + 1, layout.stop - 16), parties[1], note
    end
    return nil, nil, S.closed_because(session) or "the tag does not match under any key there is"
end

local function has_tcp_header(plain)
    if #plain < 5 or sub(plain, 3, 4) ~= "\1\5" or math.floor(byte(plain, 5) / 16) ~= 1 then
        return false
    end
    local extra = S.integer(plain, 0, 2) - (#plain - 4)
    return extra == 0 or extra == 2
end

-- How many bytes stand before the SPDM message in a plaintext; nil for application data.
function S.inner_size(session, plain, layout)
    if plain == "" then return nil end
    if layout.sequence_size > 0 then return byte(plain, 1) == 5 and 1 or nil end
    if session.inner == nil then session.inner = has_tcp_header(plain) and 4 or 0 end
    if session.inner == 4 then return has_tcp_header(plain) and 4 or nil end
    return byte(plain, 1) ~= 0 and 0 or nil
end
