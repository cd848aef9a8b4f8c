-- Following a conversation: what each message means, given those before it.
--
-- Wireshark asks for packets in order once, and in any order later. So each message is understood
-- once, and what was understood, its *view*, is kept: it is all that showing a message takes.

local byte, sub, format = string.byte, string.sub, string.format
local has_bits = function(value, mask) return bit.band(value or 0, mask) ~= 0 end

local GET_VERSION, VERSION, ERROR = 0x84, 0x04, 0x7F
local ANY_VERSION = { [GET_VERSION] = true, [VERSION] = true, [ERROR] = true }
local CHUNK_SEND, CHUNK_SEND_ACK, CHUNK_GET, CHUNK_RESPONSE = 0x85, 0x05, 0x86, 0x06
local RESPOND_IF_READY = 0xFF
local CARRIERS = { [CHUNK_SEND] = true, [CHUNK_GET] = true, [RESPOND_IF_READY] = true }
local MAX_LARGE_MESSAGE = 2097152

local function other(party)
    return party == "requester" and "responder" or "requester"
end

-- contexts are never changed: each change makes a new one
local function with(context, changes)
    local made = {}
    for key, value in pairs(context) do made[key] = value end
    for key, value in pairs(changes) do made[key] = value end
    return made
end

function S.new_conversation(transport)
    return {
        transport = transport, context = { version = 0x10 }, version_known = false,
        encrypts = true, sessions = {}, dialects = {}, turn = "requester",
    }
end

local function note(view, expert, text)
    view.notes[#view.notes + 1] = { expert = expert, text = text }
end

local function new_view(where, data, party, session)
    return {
        data = data, party = party, session = session, number = where.number, time = where.time,
        notes = {}, inside = {}, consumed = #data,
    }
end

-- decoding -----------------------------------------------------------------------------------------

local function decode(view, context, whole)
    local data = view.data
    view.code = byte(data, 2) or 0
    view.context = context
    local message = S.messages[view.code]
    view.message = message
    view.name = message and message.name or format("unknown code 0x%02X", view.code)
    if #data < 2 then
        view.broken = { at = 0, field = "SPDMVersion", why = #data .. " bytes are no message" }
        return nil
    elseif not message then
        view.broken = { at = 1, field = "RequestResponseCode", why = "no such code" }
        return nil
    elseif context.version < message.since and not ANY_VERSION[view.code] then
        view.broken = { at = 0, field = "SPDMVersion", why = "this version has no such message" }
        return nil
    end
    local walked, broken = S.attempt(S.walk, message, data, 0, #data, context)
    if broken then
        view.broken = broken
        return nil
    end
    view.walked, view.consumed = walked, walked.pos
    if walked.pos < #data then
        local tail = sub(data, walked.pos + 1)
        local zeros = not tail:find("[^%z]")
        view.data = sub(data, 1, walked.pos)
        if whole and not (view.padded and zeros and #tail < 4) then
            note(view, "tail", format("%d %sbytes follow the message", #tail, zeros and "zero " or ""))
        end
    end
    return walked
end

local function answering(context, pending, requester_side)
    local request = pending and pending.walked and pending.walked.values
    return with(context, { request = request or false, requester_side = requester_side or false })
end

local function pending_of(view, session)
    return { code = view.code, walked = view.walked, data = view.data, session = session }
end

local function look_at_version(conversation, view)
    local version = byte(view.data, 1)
    if not version or ANY_VERSION[byte(view.data, 2) or 0] then return end
    if not conversation.version_known then
        if S.versions[version] then
            conversation.version_known = true
            conversation.context = with(conversation.context, { version = version })
        end
    elseif version ~= conversation.context.version then
        note(view, "version", format("SPDMVersion 0x%02x on a connection of 0x%02x", version,
            conversation.context.version))
    end
end

-- negotiation --------------------------------------------------------------------------------------

local function the_bit(mask)
    if mask == 0 then return nil end
    local number = 0
    while mask % 2 == 0 do mask, number = mask / 2, number + 1 end
    return mask == 1 and number or nil
end

local function selected(kind, mask)
    local number = the_bit(mask or 0)
    return number and S.algorithms[kind][number] or nil
end

local function multi_key(flags, negotiated)
    local wanted = bit.band(flags or 0, S.capability_flags.multi_key)
    if wanted == S.capability_flags.multi_key_negotiated then return S.set(negotiated) end
    return wanted == S.capability_flags.multi_key_only
end

local function check_capabilities(view, side)
    local flags, version = view.walked.values.flags or 0, view.context.version
    local defined = (S.capability_bits[side] or {})[version] or 0
    local seen = bit.band(flags, defined)
    for _, rule in ipairs(S.capability_rules[side]) do
        if bit.band(seen, rule.given) == bit.tobit(rule.given) then
            local lacks = rule.needs and bit.band(seen, rule.needs) == 0
            local clashes = rule.forbids and bit.band(seen, rule.forbids) ~= 0
            if lacks or clashes then note(view, "capabilities", rule.text) end
        end
    end
end

local ANSWERS = {}

ANSWERS[VERSION] = function(conversation)
    conversation.context = { version = 0x10 }
    conversation.version_known = false
    conversation.sessions, conversation.clear = {}, nil
    conversation.encrypts, conversation.hash, conversation.aead = true, nil, nil
    conversation.encapsulated, conversation.large = nil, {}
end

ANSWERS[0x61] = function(conversation, pending, view) -- CAPABILITIES
    local ours, theirs = pending.walked.values.flags or 0, view.walked.values.flags or 0
    local both = bit.band(ours, theirs)
    conversation.requester_flags, conversation.responder_flags = ours, theirs
    conversation.encrypts = has_bits(both, S.capability_flags.encrypt)
    conversation.context = with(conversation.context,
        { handshake_in_the_clear = has_bits(both, S.capability_flags.clear) })
    check_capabilities(view, "responder")
end

ANSWERS[0x63] = function(conversation, pending, view) -- ALGORITHMS
    local values, masks = view.walked.values, {}
    for _, structure in ipairs(view.walked.lists.algorithm_structures or {}) do
        local span = structure.spans.alg_supported
        masks[structure.values.alg_type] = S.integer(view.data, span.at, math.min(span.size, 2))
    end
    local version = conversation.context.version
    local hash = selected("base_hash", values.base_hash_sel)
    local signature = selected("base_asym", values.base_asym_sel)
        or (version >= 0x14 and selected("pqc_asym", values.pqc_asym_sel))
    local requester = selected("base_asym", masks[4]) or selected("pqc_asym", masks[6])
    local exchange = selected("kem", masks[7]) or selected("dhe", masks[2])
    local measurement = selected("measurement_hash", values.measurement_hash_algo)
    local aead = selected("aead", masks[3])
    conversation.hash, conversation.aead = hash and hash.name, aead and aead.name
    if not hash then note(view, "algorithms", "no hash is selected, or more than one") end
    conversation.context = with(conversation.context, {
        hash_size = hash and hash.size or 0,
        signature_size = signature and signature.size or 0,
        req_signature_size = requester and requester.size or 0,
        measurement_hash_size = measurement and measurement.size or 0,
        exchange_request_size = exchange and exchange.request or 0,
        exchange_response_size = exchange and exchange.response or 0,
        opaque_format = values.opaque_data_format or 0,
    })
    if version >= 0x13 then
        local asked = pending.walked.values.responder_multi_key_conn
        conversation.context = with(conversation.context, {
            multi_key_conn_rsp = multi_key(conversation.responder_flags, asked),
            multi_key_conn_req = multi_key(conversation.requester_flags,
                values.requester_multi_key_conn_sel),
        })
    end
end

-- sessions -----------------------------------------------------------------------------------------

local function begin_session(conversation, pending, view, names)
    local request, response = pending.walked, view.walked
    local id = request.values.req_session_id + 65536 * response.values.rsp_session_id
    local session = S.new_session(conversation, id, S.field_bytes(request, names[1]),
        S.field_bytes(response, names[2]), names.psk)
    conversation.sessions[id] = session
    view.session = session
    return session
end

ANSWERS[0x64] = function(conversation, pending, view) -- KEY_EXCHANGE_RSP
    local session = begin_session(conversation, pending, view, { "random_data", "random_data" })
    if session.clear then conversation.clear = session end
end

ANSWERS[0x66] = function(conversation, pending, view) -- PSK_EXCHANGE_RSP
    local session = begin_session(conversation, pending, view,
        { "requester_context", "responder_context", psk = true })
    if not S.set(view.walked.values.responder_context) then S.establish(session) end
end

ANSWERS[0x65] = function(conversation, pending, view) -- FINISH_RSP
    local session = pending.session or conversation.clear
    if not session then return end
    view.session = session
    conversation.clear = nil
    S.establish(session)
end

ANSWERS[0x67] = function(_, pending) -- PSK_FINISH_RSP
    if pending.session then S.establish(pending.session) end
end

local function end_session(conversation, session)
    conversation.sessions[session.id] = nil
    if conversation.clear == session then conversation.clear = nil end
end

-- messages inside of messages ----------------------------------------------------------------------

local function inside(outer, data, party, context, source)
    local view = new_view({ number = outer.number, time = outer.time }, data, party, outer.session)
    view.source = source
    outer.inside[#outer.inside + 1] = view
    decode(view, context, true)
    return view
end

local function take_chunk(conversation, view, which)
    local values, chunk = view.walked.values, S.field_bytes(view.walked, "chunk")
    local number = values.chunk_seq_no
    conversation.large = conversation.large or {}
    if number == 0 then
        conversation.large[which] = {
            parts = {}, total = 0, expected = 0, handle = values.handle,
            size = values.large_message_size,
        }
    end
    local large = conversation.large[which]
    if not large then
        note(view, "sequence", "the first chunk is not in the capture")
        return nil
    elseif number == large.expected - 1 then
        note(view, "sequence", "sent again")
        return nil
    end
    local total = large.total + #chunk
    local problem
    if values.handle ~= large.handle then
        problem = format("handle %d instead of %d", values.handle, large.handle)
    elseif number ~= large.expected then
        problem = format("chunk %d instead of %d", number, large.expected)
    elseif total > large.size or total > MAX_LARGE_MESSAGE then
        problem = format("the chunks are longer than LargeMessageSize, %d bytes", large.size)
    elseif S.set(values.last_chunk) and total ~= large.size then
        problem = format("the last chunk ends at %d of %d bytes", total, large.size)
    end
    if problem then
        note(view, "chunks", problem)
        conversation.large[which] = nil
        return nil
    end
    large.parts[#large.parts + 1] = chunk
    large.total, large.expected = total, large.expected + 1
    if not S.set(values.last_chunk) then return nil end
    conversation.large[which] = nil
    return table.concat(large.parts)
end

local function encapsulated_request(conversation, view, data, session)
    local inner = inside(view, data, "responder", conversation.context, "encapsulated")
    conversation.encapsulated = pending_of(inner, session)
end

local function encapsulated_response(conversation, view, data)
    local pending = conversation.encapsulated
    conversation.encapsulated = nil
    inside(view, data, "requester", answering(conversation.context, pending, true), "encapsulated")
end

-- requests -----------------------------------------------------------------------------------------

local function begin(conversation, view, session)
    conversation.pending = pending_of(view, session)
    if not view.walked then return end
    if view.code == 0xE5 then -- FINISH
        view.session = session or conversation.clear
    elseif view.code == 0xEB then -- DELIVER_ENCAPSULATED_RESPONSE
        encapsulated_response(conversation, view,
            S.field_bytes(view.walked, "encapsulated_response"))
    elseif view.code == 0xE1 and view.context.version > 0x10 then -- GET_CAPABILITIES
        check_capabilities(view, "requester")
    end
end

local function request(conversation, view, session)
    local pending = conversation.pending
    if pending and pending.data == view.data and pending.session == session then
        note(view, "sequence", "sent again")
        return
    end
    if view.code == CHUNK_SEND and view.walked then
        local large = take_chunk(conversation, view, "request")
        if large then
            local inner = inside(view, large, "requester", conversation.context, "chunks")
            begin(conversation, inner, session)
        end
    elseif not CARRIERS[view.code] then
        begin(conversation, view, session)
    end
end

-- responses ----------------------------------------------------------------------------------------

local RESPONSE_NOT_READY, LARGE_RESPONSE, DECRYPT_ERROR = 0x42, 0x0F, 0x06

local function error_response(conversation, view, session)
    local code = view.walked.values.error_code
    view.name = "ERROR " .. (S.error_names[code] or format("0x%02x", code))
    if code == RESPONSE_NOT_READY or code == LARGE_RESPONSE then return end
    note(view, "error", view.name)
    local pending = conversation.pending
    conversation.pending = nil
    if code == DECRYPT_ERROR and session then end_session(conversation, session) end
    if pending and (pending.code == 0xE5 or pending.code == 0xE7) then
        local failed = pending.session or conversation.clear
        if failed then end_session(conversation, failed) end
    end
end

local function answer(conversation, view, session)
    local pending = conversation.pending
    conversation.pending = nil
    if not pending or pending.code ~= view.code + 128 or pending.session ~= session then
        note(view, "unanswered", "answers no request that was seen")
        pending = nil
    end
    local walked = view.walked
    if view.code == 0x6A then -- ENCAPSULATED_REQUEST
        encapsulated_request(conversation, view, S.field_bytes(walked, "encapsulated_request"),
            session)
    elseif view.code == 0x6B and walked.values.payload_type == 1 then -- ENCAPSULATED_RESPONSE_ACK
        encapsulated_request(conversation, view, S.field_bytes(walked, "payload"), session)
    elseif view.code == 0x6C and session then -- END_SESSION_ACK
        end_session(conversation, session)
    end
    local handler = ANSWERS[view.code]
    if handler and pending and pending.walked then handler(conversation, pending, view) end
end

local function inner_response(conversation, view, data, session, source)
    local context = answering(conversation.context, conversation.pending)
    local inner = inside(view, data, "responder", context, source)
    if not inner.walked then return end
    if inner.code == ERROR then
        error_response(conversation, inner, session)
    else
        answer(conversation, inner, session)
    end
end

local function response(conversation, view, session)
    if view.code == ERROR then
        error_response(conversation, view, session)
    elseif view.code == CHUNK_SEND_ACK then
        local data = S.field_bytes(view.walked, "response")
        if data ~= "" then
            inner_response(conversation, view, data, session, "encapsulated")
        end
    elseif view.code == CHUNK_RESPONSE then
        local large = take_chunk(conversation, view, "response")
        if large then inner_response(conversation, view, large, session, "chunks") end
    else
        answer(conversation, view, session)
    end
end

-- whole messages -----------------------------------------------------------------------------------

local function ask(conversation, view)
    conversation.asked = view
    conversation.turn = "responder"
end

local function link(conversation, view)
    local asked = conversation.asked
    if asked then
        view.answers, asked.answered = asked, view
    end
    conversation.asked = nil
    conversation.turn = "requester"
end

local function understand(conversation, view, session)
    local asks = (byte(view.data, 2) or 0) >= 128
    if asks ~= (view.party == "requester") then
        note(view, "direction",
            format("a %s from the %s", asks and "request" or "response", view.party))
    end
    look_at_version(conversation, view)
    if asks then
        ask(conversation, view)
        decode(view, conversation.context, true)
        request(conversation, view, session)
    else
        link(conversation, view)
        decode(view, answering(conversation.context, conversation.pending), true)
        if view.walked then response(conversation, view, session) end
    end
    return view
end

local function party_of(conversation, source)
    if not source or not conversation.requester then return nil end
    return source == conversation.requester and "requester" or "responder"
end

-- An SPDM message outside of sessions. `where`: number and time of its packet, its source, the
-- destination, and `padded` when its transport fills messages up to words.
function S.follow_message(conversation, where, data)
    local asks = (byte(data, 2) or 0) >= 128
    local party = party_of(conversation, where.source)
    if not party then
        party = asks and "requester" or "responder"
        if where.source then
            conversation.requester = asks and where.source or where.destination
        end
    end
    local view = new_view(where, data, party, nil)
    view.padded = where.padded
    return understand(conversation, view, nil)
end

-- The side that says by Role-Inquiry that it is the responder.
function S.follow_role_inquiry(conversation, where)
    if not conversation.requester then conversation.requester = where.destination end
end

-- A secured message.
function S.follow_record(conversation, where, data)
    local party = party_of(conversation, where.source)
    local view = new_view(where, data, party or conversation.turn, nil)
    view.record, view.name = true, "secured message"
    local layout = S.record_layout(data, conversation.transport)
    view.layout = layout
    if not layout then
        view.broken = { at = 0, field = "Length", why = "no secured message has such lengths" }
        return view
    end
    local session = conversation.sessions[layout.session]
    view.session = session
    local plain, sender, text
    if session then
        local parties = party and { party } or { conversation.turn, other(conversation.turn) }
        plain, sender, text = S.open_record(session, parties, data, layout)
    else
        text = S.closed_because(nil)
    end
    if not plain then
        view.closed = text
        if view.party == "requester" then ask(conversation, view) else link(conversation, view) end
        conversation.pending = nil
        return view
    end
    if text then note(view, "record", text) end
    view.plain, view.party = plain, sender
    local before = S.inner_size(session, plain, layout)
    if not before then
        view.name = "application data"
        if view.party == "requester" then ask(conversation, view) else link(conversation, view) end
        return view
    end
    view.before = before
    local inner = new_view(where, sub(plain, before + 1), sender, session)
    view.inner = understand(conversation, inner, session)
    return view
end
