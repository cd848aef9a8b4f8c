-- What carries SPDM: DSP0287 over TCP in both dialects, the socket protocol of spdm-emu, MCTP, DOE.

local format, byte, sub = string.format, string.byte, string.sub
local spdm = S.proto

-- Role-Inquiry: MessageType 0xBF; records are 0x06, messages 0x05
local OUT_OF_SESSION, IN_SESSION, ROLE_INQUIRY = 0x05, 0x06, 0xBF
local EXTRA = { strict = 0, libspdm = 2 }
local MAX_EMU_PAYLOAD = 1048576

local tcp_stream = Field.new("tcp.stream")

-- conversations and views --------------------------------------------------------------------------

local conversations, views, assemblies

local function reset()
    conversations, views, assemblies = {}, {}, {}
    S.load_key_log(spdm.prefs.keylog ~= "" and spdm.prefs.keylog or os.getenv("SPDMKEYLOGFILE"))
end

spdm.prefs.keylog = Pref.string("Key log file", "",
    "Secrets that SPDMKEYLOGFILE made an endpoint write. Empty: the file that it names here.")
spdm.prefs_changed = reset
spdm.init = reset

local function conversation_of(pinfo, transport, key)
    if not key then
        local one = tostring(pinfo.src) .. ":" .. pinfo.src_port
        local two = tostring(pinfo.dst) .. ":" .. pinfo.dst_port
        local stream = tcp_stream()
        if one > two then one, two = two, one end
        key = format("%s %s %s", one, two, stream and tostring(stream.value) or "")
    end
    local found = conversations[key]
    if not found then
        found = S.new_conversation(transport)
        found.key = key
        conversations[key] = found
    end
    return found
end

local function where_of(pinfo)
    return {
        number = pinfo.number, time = pinfo.rel_ts,
        source = tostring(pinfo.src) .. ":" .. pinfo.src_port,
        destination = tostring(pinfo.dst) .. ":" .. pinfo.dst_port,
    }
end

-- what a message or record means: understood once, in the order of the packets
local function view_of(conversation, where, data, follow)
    local key = format("%s/%d/%s", conversation.key, where.number, data)
    local view = views[key]
    if not view then
        view = follow(conversation, where, data)
        views[key] = view
    end
    return view
end

local function tell(pinfo, text)
    pinfo.cols.protocol:set("SPDM")
    if S.told == pinfo.number then
        pinfo.cols.info:append(", " .. text)
    else
        pinfo.cols.info:set(text)
        S.told = pinfo.number
    end
    pinfo.cols.info:fence()
end

-- a message or a record, free of what carried it; `rest` is where it stands
local function dissect(conversation, where, kind, rest, pinfo, tree)
    if rest:len() == 0 then return end
    local data = rest:raw()
    if kind == IN_SESSION then
        local view = view_of(conversation, where, data, S.follow_record)
        S.show_record(view, rest, tree)
        tell(pinfo, S.title(view))
    else
        local view = view_of(conversation, where, data, S.follow_message)
        S.show_message(view, rest, 0, tree)
        tell(pinfo, S.title(view))
    end
end

-- DSP0287 ------------------------------------------------------------------------------------------

local function looks_like_header(data, at)
    if at + 4 > #data then return false end
    local length, version, kind = S.integer(data, at, 2), byte(data, at + 3), byte(data, at + 4)
    if version ~= S.binding_version then return false end
    if kind == OUT_OF_SESSION then
        local first = byte(data, at + 5)
        return length >= 4 and (not first or S.versions[first] == true)
    elseif kind == IN_SESSION then
        return length >= 22
    end
    return length == 0 and (kind == ROLE_INQUIRY or kind >= S.first_binding_error)
end

-- the bytes of the first messages of a connection, by their own lengths
local function own_size(data, at)
    local code = byte(data, at + 2)
    if code == 0x84 then return 4 end
    if code == 0x04 and at + 6 <= #data then return 6 + 2 * byte(data, at + 6) end
    if code == 0xE1 then return ({ [0x10] = 4, [0x11] = 12 })[byte(data, at + 1)] or 20 end
    return nil
end

local function dialect_by_end(data, at, length)
    for _, dialect in ipairs({ "strict", "libspdm" }) do
        local stop = at + 4 + length - EXTRA[dialect]
        if #data == stop or looks_like_header(data, stop) then return dialect end
    end
    return #data > at + 4 + length and "strict" or nil
end

local function dialect_of_message(data, at, length)
    if length < 6 then return "strict" end
    local own = own_size(data, at + 4)
    if own == length then return "strict" end
    if own == length - 2 then return "libspdm" end
    return dialect_by_end(data, at, length)
end

local function dialect_of_record(data, at, length, known)
    local first, second = S.integer(data, at + 8, 2), S.integer(data, at + 10, 2)
    for _, dialect in ipairs({ known or "strict", "strict", "libspdm" }) do
        local size = length - EXTRA[dialect]
        if (first >= 16 and size == 6 + first) or (second >= 16 and size == 8 + second) then
            return dialect
        end
    end
    return known or dialect_by_end(data, at, length)
end

-- the bytes of the frame at `at`: 0 when no frame begins there, nil when it takes more to tell
local function frame_size(conversation, source, data, at)
    if #data - at < 4 then return nil end
    local length, version, kind = S.integer(data, at, 2), byte(data, at + 3), byte(data, at + 4)
    if kind == ROLE_INQUIRY or kind >= S.first_binding_error then
        return length == 0 and 4 or 0
    end
    if version ~= S.binding_version or (kind ~= OUT_OF_SESSION and kind ~= IN_SESSION) then
        return 0
    end
    local known = conversation.dialects[source]
    local dialect = known
    if kind == IN_SESSION then
        if #data - at < 12 then return nil end
        dialect = dialect_of_record(data, at, length, known)
    elseif not known then
        if #data - at < 8 then return nil end
        dialect = dialect_of_message(data, at, length)
    end
    if not dialect then return nil end
    conversation.dialects[source] = dialect
    return 4 + length - EXTRA[dialect], dialect
end

local function show_frame(conversation, where, frame, dialect, pinfo, tree)
    local kind = frame(3, 1):uint()
    local item = tree:add(S.fields.binding, frame())
    local name = S.binding_types[kind] or format("MessageType 0x%02x", kind)
    item:set_text(format("SPDM over TCP, %s", name))
    local header = item:add(S.fields.binding, frame(0, 4))
    header:set_text("DSP0287 header")
    header:add_le(S.fields["binding.payload_len"], frame(0, 2))
    local version = header:add(S.fields["binding.version"], frame(2, 1))
    header:add(S.fields["binding.type"], frame(3, 1))
    if dialect then
        header:add(S.fields["binding.dialect"], dialect):set_generated()
    end
    if kind == ROLE_INQUIRY then
        S.follow_role_inquiry(conversation, where)
        tell(pinfo, "Role-Inquiry")
    elseif kind >= S.first_binding_error then
        header:add_proto_expert_info(S.experts.binding_error, name)
        tell(pinfo, format("error 0x%02X %s", kind, S.binding_types[kind] or ""))
    else
        if frame:len() > 4 then
            dissect(conversation, where, kind, frame(4):tvb(), pinfo, item)
        end
        return
    end
    if frame(2, 1):uint() ~= S.binding_version then
        version:add_proto_expert_info(S.experts.binding, "BindingVer is not 1")
    end
end

local function wait_for(pinfo, at, missing)
    pinfo.desegment_offset = at
    pinfo.desegment_len = missing or DESEGMENT_ONE_MORE_SEGMENT
end

-- An item for our protocol, made with the first frame: a segment that only begins one has none.
local function under_protocol(tree, tvb)
    local made
    return function()
        made = made or tree:add(spdm, tvb())
        return made
    end
end

local function dissect_binding(conversation, where, tvb, pinfo, tree)
    local at, data, total = 0, tvb:raw(), tvb:len()
    local root = under_protocol(tree, tvb)
    while at < total do
        local size, dialect = frame_size(conversation, where.source, data, at)
        if size == 0 then
            local item = root():add(spdm, tvb(at))
            item:set_text("no DSP0287 frame begins here")
            item:add_proto_expert_info(S.experts.binding, format("no DSP0287 frame begins with %s",
                S.hex(sub(data, at + 1, at + 4))))
            tell(pinfo, "no DSP0287 frame")
            return
        end
        if not size or at + size > total then
            wait_for(pinfo, at, size and at + size - total)
            return
        end
        show_frame(conversation, where, tvb(at, size):tvb(), dialect, pinfo, root())
        at = at + size
    end
end

-- spdm-emu -----------------------------------------------------------------------------------------

local function big(data, at)
    local a, b, c, d = byte(data, at + 1, at + 4)
    return ((a * 256 + b) * 256 + c) * 256 + d
end

local function is_emu(data)
    return #data >= 12 and S.emu_commands[big(data, 0)] ~= nil
        and S.emu_transports[big(data, 4)] ~= nil and big(data, 8) <= MAX_EMU_PAYLOAD
end

local dissect_doe

local function emu_payload(conversation, where, payload, transport, pinfo, tree)
    local name = S.emu_transports[transport]
    conversation.transport = name:lower()
    if name == "NONE" then
        dissect(conversation, where, OUT_OF_SESSION, payload, pinfo, tree)
    elseif name == "MCTP" then
        local kind = payload(0, 1):uint()
        tree:add(S.fields["mctp.type"], payload(0, 1))
        if (kind == OUT_OF_SESSION or kind == IN_SESSION) and payload:len() > 1 then
            dissect(conversation, where, kind, payload(1):tvb(), pinfo, tree)
        end
    elseif name == "DOE" then
        dissect_doe(conversation, where, payload, pinfo, tree)
    else
        local data = payload:raw()
        local dialect
        if #data >= 4 then
            dialect = S.integer(data, 0, 2) == #data - 2 and "libspdm" or "strict"
            show_frame(conversation, where, payload, dialect, pinfo, tree)
        end
    end
end

local function dissect_emu(conversation, where, tvb, pinfo, tree)
    local at, data, total = 0, tvb:raw(), tvb:len()
    local root = under_protocol(tree, tvb)
    while at < total do
        local rest = sub(data, at + 1)
        if #rest < 12 then return wait_for(pinfo, at) end
        if not is_emu(rest) then
            local item = root():add(spdm, tvb(at))
            item:add_proto_expert_info(S.experts.binding, "no command of spdm-emu begins here")
            return
        end
        local size = 12 + big(rest, 8)
        if #rest < size then return wait_for(pinfo, at, size - #rest) end
        local item = root():add(S.fields.emu, tvb(at, size))
        local command = S.emu_commands[big(rest, 0)]
        item:set_text("spdm-emu " .. command)
        item:add(S.fields["emu.command"], tvb(at, 4))
        item:add(S.fields["emu.transport"], tvb(at + 4, 4))
        item:add(S.fields["emu.size"], tvb(at + 8, 4))
        if size > 12 then
            if command == "NORMAL" then
                local payload = tvb(at + 12, size - 12):tvb()
                emu_payload(conversation, where, payload, big(rest, 4), pinfo, item)
            else
                item:add(S.fields["emu.payload"], tvb(at + 12, size - 12))
            end
        end
        if command ~= "NORMAL" then tell(pinfo, "spdm-emu " .. command) end
        at = at + size
    end
end

-- TCP ----------------------------------------------------------------------------------------------

function spdm.dissector(tvb, pinfo, tree)
    local conversation = conversation_of(pinfo, "tcp")
    local where = where_of(pinfo)
    if conversation.emu == nil then
        local data = tvb:raw()
        if #data < 12 and sub(data, 1, 2) == "\0\0" and sub(data, 3, 4) ~= "\1\191" then
            return wait_for(pinfo, 0)
        end
        conversation.emu = is_emu(data)
    end
    if conversation.emu then
        dissect_emu(conversation, where, tvb, pinfo, tree)
    else
        dissect_binding(conversation, where, tvb, pinfo, tree)
    end
end

-- On other ports only what plainly begins a conversation is taken for one.
local function begins(tvb)
    local data = tvb:raw(0, math.min(tvb:len(), 64))
    if is_emu(data) then return big(data, 0) == 0xDEAD or big(data, 0) == 1 end
    if not looks_like_header(data, 0) then return false end
    local kind = byte(data, 4)
    if kind == ROLE_INQUIRY then return tvb:len() == 4 end
    return kind == OUT_OF_SESSION and #data >= 8 and S.messages[byte(data, 6)] ~= nil
        and math.abs(S.integer(data, 0, 2) - (tvb:len() - 4)) <= 2
end

spdm:register_heuristic("tcp", function(tvb, pinfo, tree)
    if tvb:len() < 4 or not begins(tvb) then return false end
    pinfo.conversation = spdm
    spdm.dissector(tvb, pinfo, tree)
    return true
end)

DissectorTable.get("tcp.port"):add(4194, spdm)

-- PCI DOE ------------------------------------------------------------------------------------------

dissect_doe = function(conversation, where, tvb, pinfo, tree)
    local item = tree:add(S.fields.doe, tvb())
    if tvb:len() < 8 then
        item:add_proto_expert_info(S.experts.malformed, "a DOE object has at least 8 bytes")
        return
    end
    local kind = tvb(2, 1):uint()
    item:set_text("PCI DOE data object")
    item:add_le(S.fields["doe.vendor_id"], tvb(0, 2))
    item:add(S.fields["doe.type"], tvb(2, 1))
    item:add_le(S.fields["doe.length"], tvb(4, 4))
    conversation.transport = "doe"
    where.padded = true
    if tvb:len() == 8 then return end
    if tvb(0, 2):le_uint() == 1 and (kind == 1 or kind == 2) then
        dissect(conversation, where, kind == 2 and IN_SESSION or OUT_OF_SESSION, tvb(8):tvb(),
            pinfo, item)
    else
        item:add(S.fields["doe.payload"], tvb(8))
        tell(pinfo, kind == 0 and "DOE discovery" or "PCI DOE")
    end
end

-- The writer of captures names this dissector in exported PDUs.
local doe = Proto("spdm.doe", "SPDM in a PCI DOE data object")

function doe.dissector(tvb, pinfo, tree)
    local conversation = conversation_of(pinfo, "doe", "doe")
    local where = { number = pinfo.number, time = pinfo.rel_ts }
    dissect_doe(conversation, where, tvb, pinfo, tree:add(spdm, tvb()))
end

-- MCTP ---------------------------------------------------------------------------------------------

local function dissect_mctp_body(conversation, where, body, pinfo, tree)
    local kind = body(0, 1):uint()
    tree:add(S.fields["mctp.type"], body(0, 1))
    if (kind == OUT_OF_SESSION or kind == IN_SESSION) and body:len() > 1 then
        dissect(conversation, where, kind, body(1):tvb(), pinfo, tree)
        return true
    end
    return false
end

-- Joins packets to a message (DSP0236 8.8); gives its body, nil while it is not whole.
local function assemble(number, key, flags, data)
    local known = assemblies[number]
    if known ~= nil then return known or nil end
    local start, finish = bit.band(flags, 0x80) ~= 0, bit.band(flags, 0x40) ~= 0
    local sequence = math.floor(flags / 16) % 4
    local open = assemblies[key]
    if start then
        open = { parts = {} }
    elseif not open or open.expected ~= sequence then
        open = nil
    end
    assemblies[number] = false
    assemblies[key] = open
    if not open then return nil end
    open.parts[#open.parts + 1] = data
    open.expected = (sequence + 1) % 4
    if not finish then return nil end
    assemblies[key] = nil
    assemblies[number] = table.concat(open.parts)
    return assemblies[number]
end

local mctp = Proto("spdm.mctp", "SPDM in an MCTP packet")

function mctp.dissector(tvb, pinfo, tree)
    if tvb:len() < 5 then return 0 end
    local destination, source, flags = tvb(1, 1):uint(), tvb(2, 1):uint(), tvb(3, 1):uint()
    local item = tree:add(spdm, tvb())
    local header = item:add(S.fields.mctp, tvb(0, 4))
    header:set_text(format("MCTP from %d to %d", source, destination))
    header:add(S.fields["mctp.destination"], tvb(1, 1))
    header:add(S.fields["mctp.source"], tvb(2, 1))
    local shown = header:add(S.fields["mctp.flags"], tvb(3, 1))
    for _, name in ipairs({ "start", "end", "sequence", "owner", "tag" }) do
        shown:add(S.fields["mctp." .. name], tvb(3, 1))
    end
    local tag = format("%d %d %d", source, destination, flags % 16)
    local data = assemble(pinfo.number, tag, flags, tvb:raw(4))
    if not data then
        pinfo.cols.protocol:set("MCTP")
        pinfo.cols.info:set(format("packet of a message from %d to %d", source, destination))
        return
    end
    local body = tvb(4):tvb()
    if data ~= tvb:raw(4) then body = ByteArray.new(data, true):tvb("MCTP message") end
    local key = format("mctp %d %d", math.min(source, destination), math.max(source, destination))
    local conversation = conversation_of(pinfo, "mctp", key)
    local where = { number = pinfo.number, time = pinfo.rel_ts }
    if source ~= destination then
        where.source, where.destination = "EID " .. source, "EID " .. destination
    end
    dissect_mctp_body(conversation, where, body, pinfo, item)
end

-- Linux captures of MCTP interfaces: ETH_P_MCTP has no Ethernet type of its own.
local cooked = DissectorTable.get("sll.ltype")
if cooked then cooked:add(0x00FA, mctp) end

-- Wireshark's own MCTP dissector, where there is one, hands the bodies of types 5 and 6 on.
local found, types = pcall(DissectorTable.get, "mctp.type")
if found and types then
    local body = Proto("spdm.mctp_body", "SPDM in an MCTP message")
    function body.dissector(tvb, pinfo, tree)
        local conversation = conversation_of(pinfo, "mctp", "mctp " .. tostring(pinfo.src))
        local where = { number = pinfo.number, time = pinfo.rel_ts }
        dissect_mctp_body(conversation, where, tvb, pinfo, tree:add(spdm, tvb()))
    end
    types:add(OUT_OF_SESSION, body)
    types:add(IN_SESSION, body)
end

reset()
