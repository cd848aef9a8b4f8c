-- Showing what was understood: items, generated fields, expert information, the Info column.

local format = string.format
local spdm = S.proto

local function common(kind, name, label, ...)
    S.fields[name] = ProtoField[kind]("spdm." .. name, label, ...)
end

common("string", "name", "Message")
common("uint32", "session_id", "Session", base.HEX)
common("string", "from", "From")
common("framenum", "request_in", "Request in", base.NONE, frametype.REQUEST)
common("framenum", "response_in", "Response in", base.NONE, frametype.RESPONSE)
common("relative_time", "time", "Time since the request")
common("bool", "in_session", "In a session")
common("bool", "inside", "Inside another message")
common("none", "record", "Secured message")
common("uint32", "record.session_id", "SessionID", base.HEX)
common("uint16", "record.sequence", "SequenceNumber", base.DEC)
common("uint16", "record.length", "Length", base.DEC)
common("bytes", "record.ciphertext", "Encrypted")
common("bytes", "record.content", "ApplicationData")
common("bytes", "record.tag", "MAC")
common("bool", "record.decrypted", "Decrypted")
common("bytes", "application_data", "Application data")
common("none", "binding", "DSP0287")
common("uint16", "binding.payload_len", "PayloadLen", base.DEC)
common("uint8", "binding.version", "BindingVer", base.DEC)
common("uint8", "binding.type", "MessageType", base.HEX, S.binding_types)
common("string", "binding.dialect", "Dialect")
common("none", "emu", "spdm-emu")
common("uint32", "emu.command", "Command", base.HEX, S.emu_commands)
common("uint32", "emu.transport", "Transport", base.DEC, S.emu_transports)
common("uint32", "emu.size", "Size", base.DEC)
common("bytes", "emu.payload", "Payload")
common("none", "mctp", "MCTP")
common("uint8", "mctp.destination", "Destination", base.DEC)
common("uint8", "mctp.source", "Source", base.DEC)
common("uint8", "mctp.flags", "Flags", base.HEX)
common("bool", "mctp.start", "Start of message", 8, nil, 0x80)
common("bool", "mctp.end", "End of message", 8, nil, 0x40)
common("uint8", "mctp.sequence", "Packet sequence", base.DEC, nil, 0x30)
common("bool", "mctp.owner", "Tag owner", 8, nil, 0x08)
common("uint8", "mctp.tag", "Message tag", base.DEC, nil, 0x07)
common("uint8", "mctp.type", "Message type", base.HEX, { [5] = "SPDM", [6] = "Secured SPDM" })
common("none", "doe", "PCI DOE")
common("uint16", "doe.vendor_id", "VendorID", base.HEX)
common("uint8", "doe.type", "DataObjectType", base.DEC,
    { [0] = "DOE discovery", [1] = "CMA/SPDM", [2] = "Secured CMA/SPDM" })
common("uint32", "doe.length", "Length", base.DEC)
common("bytes", "doe.payload", "Payload")

local function expert(name, text, group, severity)
    S.experts[name] = ProtoExpert.new("spdm.expert." .. name, text, group, severity)
end

S.experts = {}
expert("malformed", "Malformed message", expert_group.MALFORMED, expert_severity.ERROR)
expert("bounds", "Value out of bounds", expert_group.MALFORMED, expert_severity.ERROR)
expert("reserved", "Reserved bits are not zero", expert_group.PROTOCOL, expert_severity.NOTE)
expert("tail", "Bytes follow the message", expert_group.PROTOCOL, expert_severity.WARN)
expert("version", "Another version than the negotiated one", expert_group.PROTOCOL,
    expert_severity.WARN)
expert("direction", "Sent by the wrong side", expert_group.PROTOCOL, expert_severity.WARN)
expert("unanswered", "Answers no request", expert_group.SEQUENCE, expert_severity.WARN)
expert("sequence", "Out of sequence", expert_group.SEQUENCE, expert_severity.NOTE)
expert("chunks", "Chunks that do not fit together", expert_group.REASSEMBLE, expert_severity.ERROR)
expert("capabilities", "Capabilities that do not go together", expert_group.PROTOCOL,
    expert_severity.WARN)
expert("algorithms", "Selection of algorithms", expert_group.PROTOCOL, expert_severity.WARN)
expert("error", "ERROR response", expert_group.RESPONSE_CODE, expert_severity.NOTE)
expert("binding_error", "DSP0287 error message", expert_group.RESPONSE_CODE, expert_severity.WARN)
expert("binding", "DSP0287 header", expert_group.PROTOCOL, expert_severity.WARN)
expert("record", "Secured message", expert_group.DECRYPTION, expert_severity.NOTE)

spdm.fields = S.fields
spdm.experts = S.experts

-- messages -----------------------------------------------------------------------------------------

local PARTIES = { requester = "Requester", responder = "Responder" }

local function generated(tree, name, value)
    local made = tree:add(S.fields[name], value)
    made:set_generated()
    return made
end

local function links(tree, view)
    if view.answers then
        if view.answers.number ~= view.number then
            generated(tree, "request_in", view.answers.number)
        end
        local elapsed = view.time - view.answers.time
        local seconds = math.floor(elapsed)
        generated(tree, "time", NSTime.new(seconds, math.floor((elapsed - seconds) * 1e9 + 0.5)))
    elseif view.answered and view.answered.number ~= view.number then
        generated(tree, "response_in", view.answered.number)
    end
end

local function show_notes(item, view)
    for _, each in ipairs(view.notes) do
        item:add_proto_expert_info(S.experts[each.expert], each.text)
    end
end

local function show_broken(item, view)
    local broken = view.broken
    item:add_proto_expert_info(S.experts.malformed, format("%s: decoding broke at byte %d, %s: %s",
        view.name, broken.at, broken.field, broken.why))
end

-- An SPDM message whose bytes begin at `base` of `tvb`.
function S.show_message(view, tvb, base, tree, inside)
    local size = math.max(#view.data, 1)
    local range = tvb(base, math.min(size, tvb:len() - base))
    local message = view.message
    local item = message and tree:add(S.fields[message.field], range)
        or tree:add(spdm, range)
    item:set_text(message and format("%s (%s)", view.name, message.clause) or view.name)
    generated(item, "name", message and message.name or view.name)
    generated(item, "from", PARTIES[view.party])
    if inside then generated(item, "inside", true) end
    if view.session then
        generated(item, "in_session", true)
        generated(item, "session_id", view.session.id)
    end
    links(item, view)
    show_notes(item, view)
    if view.broken then show_broken(item, view) end
    if not message then return end
    local out = { tvb = tvb, base = base }
    local walked = S.attempt(S.walk, message, view.data, 0, #view.data, view.context, out, item)
    for _, inner in ipairs(view.inside) do
        local place = walked and walked.messages[1]
        if inner.source == "chunks" then
            local whole = ByteArray.new(inner.data, true):tvb("Large SPDM message")
            S.show_message(inner, whole, 0, item, true)
        elseif place and place.item then
            S.show_message(inner, tvb, base + place.at, place.item, true)
        end
    end
end

-- A secured message, and what it holds when it could be opened.
function S.show_record(view, tvb, tree)
    local item = tree:add(S.fields.record, tvb())
    local layout = view.layout
    if not layout then
        show_broken(item, view)
        return
    end
    item:set_text(format("Secured message of session 0x%08x (DSP0277)", layout.session))
    generated(item, "in_session", true)
    item:add_le(S.fields["record.session_id"], tvb(0, 4))
    if view.session then generated(item, "session_id", view.session.id) end
    if layout.sequence_size > 0 then
        item:add_le(S.fields["record.sequence"], tvb(4, layout.sequence_size))
    end
    item:add_le(S.fields["record.length"], tvb(layout.head - 2, 2))
    local clear = view.session and not view.session.encrypt
    local body = layout.stop - 16 - layout.head
    if body > 0 then
        local name = clear and "record.content" or "record.ciphertext"
        item:add(S.fields[name], tvb(layout.head, body))
    end
    item:add(S.fields["record.tag"], tvb(layout.stop - 16, 16))
    generated(item, "from", PARTIES[view.party])
    generated(item, "record.decrypted", view.plain ~= nil)
    show_notes(item, view)
    if not view.plain then
        links(item, view)
        item:append_text(": not decrypted, " .. (view.closed or ""))
        return
    end
    local plain = ByteArray.new(view.plain, true):tvb("Decrypted SPDM record")
    if view.inner then
        S.show_message(view.inner, plain, view.before, tree)
    elseif plain:len() > 0 then
        tree:add(S.fields.application_data, plain())
    end
end

-- the Info column ----------------------------------------------------------------------------------

local function title(view)
    local text = view.name
    if view.record then
        if view.inner then return title(view.inner) end
        if view.layout then return format("%s [%08x]", text, view.layout.session) end
        return text
    end
    local payload = view.walked and view.walked.spans.payload
    if payload and payload.size >= 5 and S.integer(view.data, payload.at, 2) == S.dsp_number then
        local sub_id = view.data:byte(payload.at + 5)
        text = text .. " " .. (S.services[sub_id] or format("service 0x%02x", sub_id))
    end
    if view.session then text = format("%s [%08x]", text, view.session.id) end
    for _, inner in ipairs(view.inside) do text = text .. " (" .. title(inner) .. ")" end
    if view.broken then text = text .. " malformed" end
    return text
end

S.title = title
