-- Walking one structure along its declaration: its values and where they are, and, when there is
-- a tree to fill, one item for each field.
--
-- Data is a string; positions in it count from 0. What breaks off a walk is an error table with
-- `at`, `field` and `why`; `S.attempt` catches it and nothing else.

local byte, sub, format = string.byte, string.sub, string.format
local floor, min = math.floor, math.min

-- a value that is neither zero nor empty; of bytes, the values hold their number
function S.set(value)
    return value ~= nil and value ~= false and value ~= 0
end

local function broken(field, at, why)
    error({ field = field, at = at, why = why }, 0)
end

-- run a function; gives its result, or nil and the error table of what it could not read
function S.attempt(call, ...)
    local done, result = pcall(call, ...)
    if done then return result, nil end
    if type(result) == "table" and result.why then return nil, result end
    error(result, 0)
end

function S.integer(data, at, size)
    local value = 0
    for index = at + size, at + 1, -1 do value = value * 256 + (byte(data, index) or 0) end
    return value
end

local function bits_of(value, low, width)
    return floor(value / 2 ^ low) % 2 ^ width
end

local function popcount(value)
    local count = 0
    while value > 0 do
        count = count + value % 2
        value = floor(value / 2)
    end
    return count
end

local function all_zero(data, at, size)
    return not sub(data, at + 1, at + size):find("[^%z]")
end

-- what a condition or a size asks of the context; whoever answers may be either side
function S.in_context(context, name)
    if name == "multi_key_conn" then
        name = context.requester_side and "multi_key_conn_req" or "multi_key_conn_rsp"
    end
    return S.set(context[name])
end

local function size_in(context, name)
    if type(name) == "number" then return name end
    if name == "answer_signature_size" then
        name = context.requester_side and "req_signature_size" or "signature_size"
    end
    return context[name] or 0
end

local SHOWN = {
    version = function(value)
        local text = format("%d.%d.%d", floor(value / 4096), floor(value / 256) % 16,
            floor(value / 16) % 16)
        return value % 16 ~= 0 and text .. " alpha " .. value % 16 or text
    end,
    spdm_version = function(value) return format("%d.%d", floor(value / 16), value % 16) end,
    exponent = function(value) return format("2^%d us", value) end,
}

-- the walk ----------------------------------------------------------------------------------------

local function room(w, element, size)
    if size > w.stop - w.pos then
        broken(element.name, w.pos, format("%d bytes, but %d are left", size, w.stop - w.pos))
    end
end

local function range(w, at, size)
    return w.out.tvb(w.out.base + at, size)
end

-- an item for `size` bytes from `at` on; none without a tree, and none for nothing
local function item(w, field, at, size)
    if not w.tree or size == 0 then return nil end
    return w.tree:add_le(S.fields[field], range(w, at, size))
end

-- the names of the algorithms that the bits of a mask stand for
local function algorithms(kind, mask)
    local names, number = {}, 0
    while mask > 0 do
        if mask % 2 == 1 then
            local known = S.algorithms[kind][number]
            names[#names + 1] = known and known.name or "bit " .. number
        end
        mask, number = floor(mask / 2), number + 1
    end
    return #names > 0 and table.concat(names, ", ") or "none"
end

local function shown(made, element, value, at, size, w)
    if not made then return end
    local kind = S.algorithm_masks[element.key]
    if kind then made:append_text(" (" .. algorithms(kind, value) .. ")") end
    if element.shown then made:append_text(" (" .. SHOWN[element.shown](value) .. ")") end
    for _, flag in ipairs(element.flags or {}) do
        made:add_le(S.fields[flag], range(w, at, size))
    end
end

local function reserved(w, element, size)
    room(w, element, size)
    local made = item(w, element.field, w.pos, size)
    if made and not all_zero(w.data, w.pos, size) then
        made:add_proto_expert_info(S.experts.reserved)
    end
    w.pos = w.pos + size
end

local KINDS = {}

function KINDS.uint(w, element)
    if element.reserved_before and w.context.version < element.reserved_before then
        return reserved(w, element, element.size)
    end
    room(w, element, element.size)
    local at, size = w.pos, element.size
    local value = S.integer(w.data, at, size)
    if element.role == "total" then
        local total = value + (element.uncounted or 0)
        if total > w.stop - w.start then
            broken(element.name, at, format("%d bytes, but fewer are there", value))
        elseif w.start + total < at + size then
            broken(element.name, at, format("%d bytes are too few", value))
        end
        w.stop, w.exact = w.start + total, true
    end
    local low, high = element.minimum or 0, element.maximum
    if value < low or (high and value > high) then
        local made = item(w, element.field, at, size)
        if made then made:add_proto_expert_info(S.experts.bounds) end
        broken(element.name, at, format("0x%x is out of bounds", value))
    end
    if element.role == "version" and not high and value ~= w.context.version then
        broken(element.name, at, format("0x%x is not the negotiated version", value))
    end
    shown(item(w, element.field, at, size), element, value, at, size, w)
    w.values[element.key] = value
    w.pos = at + size
end

function KINDS.word(w, element)
    room(w, element, element.size)
    local at, size, version = w.pos, element.size, w.context.version
    local value, claimed = S.integer(w.data, at, size), 0
    local made = item(w, element.field, at, size)
    for _, bit in ipairs(element.bits) do
        if version >= (bit.since or 0) and version <= (bit.last or 255) then
            w.values[bit.key] = bits_of(value, bit.low, bit.width)
            claimed = claimed + w.values[bit.key] * 2 ^ bit.low
            if made then made:add_le(S.fields[bit.field], range(w, at, size)) end
        end
    end
    if made and claimed ~= value then made:add_proto_expert_info(S.experts.reserved) end
    w.pos = at + size
end

function KINDS.reserved(w, element)
    reserved(w, element, element.size)
end

function KINDS.align(w, element)
    local size = (w.start - w.pos) % element.to
    room(w, element, size)
    if not all_zero(w.data, w.pos, size) then
        broken("padding", w.pos, "padding is not zero")
    end
    item(w, element.field, w.pos, size)
    w.pos = w.pos + size
end

local function look_inside(w, made, inner, at, size)
    if inner.message then
        -- a whole message: who knows the conversation shows it
        w.messages[#w.messages + 1] = { at = at, size = size, item = made }
        return
    end
    local name = inner.structure
    if inner.selector then name = inner.structures[w.values[inner.selector] or 0] end
    local structure = name and S.structures[name]
    if not structure or not made then return end
    local whole = S.attempt(S.walk, structure, w.data, at, at + size, w.context)
    if not whole then return end
    local child = made:add(S.fields[structure.field], range(w, at, whole.pos - at))
    child:set_text(structure.name)
    S.walk(structure, w.data, at, at + size, w.context, w.out, child)
end

function KINDS.bytes(w, element)
    local size
    if element.length then
        size = w.values[element.length] or 0
    elseif element.size then
        size = size_in(w.context, element.size)
    else
        size = w.stop - w.pos
    end
    if element.maximum and size > element.maximum then
        broken(element.name, w.pos, format("%d bytes are more than %d", size, element.maximum))
    end
    room(w, element, size)
    local at = w.pos
    w.values[element.key], w.spans[element.key] = size, { at = at, size = size }
    local made = item(w, element.field, at, size)
    if made and element.key == "alg_supported" then
        local kind = S.algorithm_structures[w.values.alg_type]
        local mask = S.integer(w.data, at, min(size, 4))
        if kind then made:append_text(" (" .. algorithms(kind, mask) .. ")") end
    end
    if element.inner and size > 0 then look_inside(w, made, element.inner, at, size) end
    w.pos = at + size
end

function KINDS.nested(w, element)
    local structure = S.structures[element.structure]
    local made
    if w.tree then
        made = w.tree:add(S.fields[element.field], range(w, w.pos, w.stop - w.pos))
    end
    local walked = S.walk(structure, w.data, w.pos, w.stop, w.context, w.out, made)
    if made then
        made:set_len(walked.pos - w.pos)
        made:set_text(element.name)
    end
    w.values[element.key] = 1
    w.pos = walked.pos
end

local function scalar(w, tree, element, stop)
    local one = element.item
    local size = size_in(w.context, one.size)
    if size == 0 or size > stop - w.pos then
        broken(element.name, w.pos, format("no %d bytes are left", size))
    end
    if tree then
        local made = tree:add_le(S.fields[one.field], range(w, w.pos, size))
        if one.uint then shown(made, one, S.integer(w.data, w.pos, size), w.pos, size, w) end
    end
    w.pos = w.pos + size
end

local function structured(w, tree, element, stop)
    local structure = S.structures[element.item.structure]
    local made
    if tree then
        made = tree:add(S.fields[structure.field], range(w, w.pos, min(1, stop - w.pos)))
    end
    local walked = S.walk(structure, w.data, w.pos, stop, w.context, w.out, made)
    if made then
        made:set_len(walked.pos - w.pos)
        made:set_text(structure.name)
    end
    w.lists[element.key] = w.lists[element.key] or {}
    table.insert(w.lists[element.key], walked)
    w.pos = walked.pos
end

function KINDS.items(w, element)
    local stop, count = w.stop, nil
    if element.length then
        room(w, element, w.values[element.length] or 0)
        stop = w.pos + (w.values[element.length] or 0)
    end
    if element.popcount then
        count = popcount(w.values[element.popcount] or 0)
    elseif element.count then
        count = w.values[element.count] or 0
    end
    if count and element.maximum and count > element.maximum then
        broken(element.name, w.pos, format("%d is more than %d", count, element.maximum))
    end
    local start, tree = w.pos, nil
    if w.tree and stop > start and count ~= 0 then
        tree = w.tree:add(S.fields[element.field], range(w, start, stop - start))
    end
    local done, one = 0, element.item.structure and structured or scalar
    while (count and done < count) or (not count and w.pos < stop) do
        one(w, tree, element, stop)
        done = done + 1
    end
    if element.length and w.pos ~= stop then
        broken(element.name, w.pos, format("%d bytes too many", stop - w.pos))
    end
    if tree then
        tree:set_len(w.pos - start)
        tree:set_text(format("%s: %d %s", element.name, done, done == 1 and "entry" or "entries"))
    end
    w.values[element.key] = done
end

-- Walk `data` from `start` on, before `stop`; `out` says where its bytes are in a Tvb.
--
-- Gives where the walk ended (`pos`), `values` by attribute, `spans` of fields that are bytes, the
-- walks of list entries in `lists`, and embedded `messages`.
function S.walk(structure, data, start, stop, context, out, tree)
    local w = {
        data = data, start = start, pos = start, stop = stop, context = context, out = out,
        tree = tree, values = {}, spans = {}, lists = {}, messages = {}, exact = false,
    }
    local version = context.version
    for _, element in ipairs(structure.elements) do
        if version >= (element.since or 0) and version <= (element.last or 255)
            and (not element.when or element.when(w.values, context)) then
            KINDS[element.kind](w, element)
        end
    end
    if w.exact and w.pos ~= w.stop then
        broken("Length", w.pos, format("%d bytes too many", w.stop - w.pos))
    end
    return w
end

-- bytes of a field that was walked over, "" when it is absent
function S.field_bytes(w, key)
    local span = w.spans[key]
    return span and sub(w.data, span.at + 1, span.at + span.size) or ""
end
