-- What it takes to open a record: SHA-2, SHA-3, HMAC, HKDF-Expand, AES-GCM and ChaCha20-Poly1305.
--
-- The Lua of Wireshark 4.0 has no ciphers, so they are here, for strings of bytes. They are made for
-- reading captures: nothing about them is constant in time.

local band, bor, bxor, bnot = bit.band, bit.bor, bit.bxor, bit.bnot
local rshift, lshift, ror, rol, tobit = bit.rshift, bit.lshift, bit.ror, bit.rol, bit.tobit
local byte, char, sub, rep, concat = string.byte, string.char, string.sub, string.rep, table.concat
local floor = math.floor

local function word_be(text, at)
    local a, b, c, d = byte(text, at, at + 3)
    return bor(lshift(a, 24), lshift(b, 16), lshift(c, 8), d)
end

local function word_le(text, at)
    local a, b, c, d = byte(text, at, at + 3)
    return bor(lshift(d, 24), lshift(c, 16), lshift(b, 8), a)
end

local function bytes_be(word)
    return char(band(rshift(word, 24), 255), band(rshift(word, 16), 255),
        band(rshift(word, 8), 255), band(word, 255))
end

local function bytes_le(word)
    return char(band(word, 255), band(rshift(word, 8), 255),
        band(rshift(word, 16), 255), band(rshift(word, 24), 255))
end

-- an unsigned number below 2^53 as `size` bytes, most significant first
local function number_be(value, size)
    local out = {}
    for index = size, 1, -1 do
        out[index] = char(value % 256)
        value = floor(value / 256)
    end
    return concat(out)
end

local function number_le(value, size)
    return number_be(value, size):reverse()
end

local function xor(one, other)
    local out = {}
    for at = 1, #one do
        out[at] = char(bxor(byte(one, at), byte(other, at)))
    end
    return concat(out)
end

-- SHA-256 (FIPS 180-4) -----------------------------------------------------------------------------

local function sha256(text)
    local K = S.sha2_words
    local h = {}
    for index = 1, 8 do h[index] = S.sha256_start[index] end
    text = text .. "\128" .. rep("\0", (55 - #text) % 64) .. number_be(#text * 8, 8)
    local w = {}
    for block = 1, #text, 64 do
        for t = 1, 16 do w[t] = word_be(text, block + 4 * (t - 1)) end
        for t = 17, 64 do
            local x, y = w[t - 15], w[t - 2]
            local s0 = bxor(ror(x, 7), ror(x, 18), rshift(x, 3))
            local s1 = bxor(ror(y, 17), ror(y, 19), rshift(y, 10))
            w[t] = tobit(w[t - 16] + s0 + w[t - 7] + s1)
        end
        local a, b, c, d, e, f, g, i = h[1], h[2], h[3], h[4], h[5], h[6], h[7], h[8]
        for t = 1, 64 do
            local s1 = bxor(ror(e, 6), ror(e, 11), ror(e, 25))
            local t1 = tobit(i + s1 + bxor(band(e, f), band(bnot(e), g)) + K[2 * t - 1] + w[t])
            local s0 = bxor(ror(a, 2), ror(a, 13), ror(a, 22))
            local t2 = s0 + bxor(band(a, b), band(a, c), band(b, c))
            i, g, f, e, d, c, b, a = g, f, e, tobit(d + t1), c, b, a, tobit(t1 + t2)
        end
        local v = { a, b, c, d, e, f, g, i }
        for index = 1, 8 do h[index] = tobit(h[index] + v[index]) end
    end
    local out = {}
    for index = 1, 8 do out[index] = bytes_be(h[index]) end
    return concat(out)
end

-- SHA-384 and SHA-512: each 64-bit word as its high and its low half ----------------------------

local WORD = 4294967296

local function add64(ah, al, bh, bl)
    local low = al % WORD + bl % WORD
    local high = ah % WORD + bh % WORD + floor(low / WORD)
    return tobit(high % WORD), tobit(low % WORD)
end

local function add64_of_five(ah, al, bh, bl, ch, cl, dh, dl, eh, el)
    local low = al % WORD + bl % WORD + cl % WORD + dl % WORD + el % WORD
    local high = ah % WORD + bh % WORD + ch % WORD + dh % WORD + eh % WORD + floor(low / WORD)
    return tobit(high % WORD), tobit(low % WORD)
end

-- rotate right by fewer than 32 bits; with the halves exchanged: by 32 more
local function ror64(high, low, by)
    return bor(rshift(high, by), lshift(low, 32 - by)), bor(rshift(low, by), lshift(high, 32 - by))
end

local function xor3(a, b, c, d, e, f)
    return bxor(a, c, e), bxor(b, d, f)
end

local function small_sigma(high, low, r1, r2, shift, second_crosses)
    local a, b = ror64(high, low, r1)
    local c, d
    if second_crosses then c, d = ror64(low, high, r2) else c, d = ror64(high, low, r2) end
    local e, f = rshift(high, shift), bor(rshift(low, shift), lshift(high, 32 - shift))
    return xor3(a, b, c, d, e, f)
end

local function sha512_blocks(text, start, size)
    local K = S.sha2_words
    local h = {}
    for index = 1, 16 do h[index] = start[index] end
    text = text .. "\128" .. rep("\0", (111 - #text) % 128) .. number_be(#text * 8, 16)
    local w = {}
    for block = 1, #text, 128 do
        for t = 1, 32 do w[t] = word_be(text, block + 4 * (t - 1)) end
        for t = 17, 80 do
            local x, y = 2 * (t - 15), 2 * (t - 2)
            local a, b = small_sigma(w[x - 1], w[x], 1, 8, 7, false)
            local c, d = small_sigma(w[y - 1], w[y], 19, 29, 6, true)
            w[2 * t - 1], w[2 * t] =
                add64_of_five(w[2 * t - 33], w[2 * t - 32], a, b, w[2 * t - 15], w[2 * t - 14], c, d,
                    0, 0)
        end
        local ah, al, bh, bl, ch, cl, dh, dl = h[1], h[2], h[3], h[4], h[5], h[6], h[7], h[8]
        local eh, el, fh, fl, gh, gl, ih, il = h[9], h[10], h[11], h[12], h[13], h[14], h[15], h[16]
        for t = 1, 80 do
            local p, q = ror64(eh, el, 14)
            local r, s = ror64(eh, el, 18)
            local x, y = ror64(el, eh, 9)
            local s1h, s1l = xor3(p, q, r, s, x, y)
            local t1h, t1l = add64_of_five(ih, il, s1h, s1l,
                bxor(band(eh, fh), band(bnot(eh), gh)), bxor(band(el, fl), band(bnot(el), gl)),
                K[2 * t - 1], K[2 * t], w[2 * t - 1], w[2 * t])
            p, q = ror64(ah, al, 28)
            r, s = ror64(al, ah, 2)
            x, y = ror64(al, ah, 7)
            local s0h, s0l = xor3(p, q, r, s, x, y)
            local t2h, t2l = add64(s0h, s0l,
                bxor(band(ah, bh), band(ah, ch), band(bh, ch)),
                bxor(band(al, bl), band(al, cl), band(bl, cl)))
            ih, il, gh, gl, fh, fl = gh, gl, fh, fl, eh, el
            eh, el = add64(dh, dl, t1h, t1l)
            dh, dl, ch, cl, bh, bl = ch, cl, bh, bl, ah, al
            ah, al = add64(t1h, t1l, t2h, t2l)
        end
        local v = { ah, al, bh, bl, ch, cl, dh, dl, eh, el, fh, fl, gh, gl, ih, il }
        for index = 1, 15, 2 do
            h[index], h[index + 1] = add64(h[index], h[index + 1], v[index], v[index + 1])
        end
    end
    local out = {}
    for index = 1, size / 4 do out[index] = bytes_be(h[index]) end
    return concat(out)
end

-- SHA-3 (FIPS 202): 25 lanes, each as its high and its low half --------------------------------

-- rotate left by any number of bits
local function rol64(high, low, by)
    if by >= 32 then
        high, low, by = low, high, by - 32
    end
    if by == 0 then return high, low end
    return bor(lshift(high, by), rshift(low, 32 - by)), bor(lshift(low, by), rshift(high, 32 - by))
end

local function keccak(h, l)
    local ch, cl, bh, bl = {}, {}, {}, {}
    for round = 1, 24 do
        for x = 0, 4 do
            ch[x] = bxor(h[x], h[x + 5], h[x + 10], h[x + 15], h[x + 20])
            cl[x] = bxor(l[x], l[x + 5], l[x + 10], l[x + 15], l[x + 20])
        end
        for x = 0, 4 do
            local p, q = rol64(ch[(x + 1) % 5], cl[(x + 1) % 5], 1)
            local dh, dl = bxor(ch[(x + 4) % 5], p), bxor(cl[(x + 4) % 5], q)
            for y = 0, 20, 5 do
                h[x + y], l[x + y] = bxor(h[x + y], dh), bxor(l[x + y], dl)
            end
        end
        for x = 0, 4 do
            for y = 0, 4 do
                local from, to = x + 5 * y, y + 5 * ((2 * x + 3 * y) % 5)
                bh[to], bl[to] = rol64(h[from], l[from], S.keccak_rotations[from + 1])
            end
        end
        for y = 0, 20, 5 do
            for x = 0, 4 do
                local one, two = y + (x + 1) % 5, y + (x + 2) % 5
                h[x + y] = bxor(bh[x + y], band(bnot(bh[one]), bh[two]))
                l[x + y] = bxor(bl[x + y], band(bnot(bl[one]), bl[two]))
            end
        end
        h[0] = bxor(h[0], S.keccak_rounds[2 * round - 1])
        l[0] = bxor(l[0], S.keccak_rounds[2 * round])
    end
end

local function sha3(text, size, rate)
    local missing = rate - #text % rate
    local ending = "\6" .. rep("\0", missing - 1)
    ending = sub(ending, 1, -2) .. char(bor(byte(ending, -1), 128))
    text = text .. ending
    local h, l = {}, {}
    for lane = 0, 24 do h[lane], l[lane] = 0, 0 end
    for block = 1, #text, rate do
        for lane = 0, rate / 8 - 1 do
            l[lane] = bxor(l[lane], word_le(text, block + 8 * lane))
            h[lane] = bxor(h[lane], word_le(text, block + 8 * lane + 4))
        end
        keccak(h, l)
    end
    local out = {}
    for lane = 0, size / 8 - 1 do out[#out + 1] = bytes_le(l[lane]) .. bytes_le(h[lane]) end
    return concat(out)
end

local function sha3_entry(size, rate)
    return { size = size, block = rate, digest = function(text) return sha3(text, size, rate) end }
end

S.hashes = {
    ["sha3-256"] = sha3_entry(32, 136),
    ["sha3-384"] = sha3_entry(48, 104),
    ["sha3-512"] = sha3_entry(64, 72),
    ["sha-256"] = { size = 32, block = 64, digest = sha256 },
    ["sha-384"] = { size = 48, block = 128,
        digest = function(text) return sha512_blocks(text, S.sha384_start, 48) end },
    ["sha-512"] = { size = 64, block = 128,
        digest = function(text) return sha512_blocks(text, S.sha512_start, 64) end },
}

local function hmac(hash, key, text)
    if #key > hash.block then key = hash.digest(key) end
    key = key .. rep("\0", hash.block - #key)
    local inner = hash.digest(xor(key, rep("\54", hash.block)) .. text)
    return hash.digest(xor(key, rep("\92", hash.block)) .. inner)
end

local function expand(hash, secret, info, length)
    local out, last, count = "", "", 0
    while #out < length do
        count = count + 1
        last = hmac(hash, secret, last .. info .. char(count))
        out = out .. last
    end
    return sub(out, 1, length)
end

-- HKDF-Expand with the info of DSP0274 clause 12 (BinConcat)
function S.derive(hash, secret, version, label, length)
    local info = number_le(length, 2) .. "spdm1." .. (version % 16) .. " " .. label
    return expand(hash, secret, info, length)
end

-- AES (FIPS 197) -----------------------------------------------------------------------------------

local sbox, T0, T1, T2, T3

local function make_tables()
    sbox, T0, T1, T2, T3 = {}, {}, {}, {}, {}
    local p, q = 1, 1
    sbox[0] = 0x63
    repeat
        p = band(bxor(p, lshift(p, 1), p >= 128 and 0x1B or 0), 255)
        q = bxor(q, lshift(q, 1))
        q = bxor(q, lshift(q, 2))
        q = band(bxor(q, lshift(q, 4)), 255)
        if q >= 128 then q = bxor(q, 0x09) end
        local x = bxor(q, lshift(q, 1), lshift(q, 2), lshift(q, 3), lshift(q, 4))
        sbox[p] = band(bxor(x, rshift(band(x, 0xFF00), 8), 0x63), 255)
    until p == 1
    for index = 0, 255 do
        local s = sbox[index]
        local s2 = band(bxor(lshift(s, 1), s >= 128 and 0x1B or 0), 255)
        local t = bor(lshift(s2, 24), lshift(s, 16), lshift(s, 8), bxor(s2, s))
        T0[index], T1[index], T2[index], T3[index] = t, ror(t, 8), ror(t, 16), ror(t, 24)
    end
end

local function substitute(w)
    return bor(lshift(sbox[band(rshift(w, 24), 255)], 24), lshift(sbox[band(rshift(w, 16), 255)], 16),
        lshift(sbox[band(rshift(w, 8), 255)], 8), sbox[band(w, 255)])
end

local function aes_schedule(key)
    if not sbox then make_tables() end
    local words, rcon = #key / 4, 1
    local w = {}
    for index = 0, words - 1 do w[index] = word_be(key, 4 * index + 1) end
    for index = words, 4 * (words + 7) - 1 do
        local t = w[index - 1]
        if index % words == 0 then
            t = bxor(substitute(rol(t, 8)), lshift(rcon, 24))
            rcon = band(bxor(lshift(rcon, 1), rcon >= 128 and 0x1B or 0), 255)
        elseif words > 6 and index % words == 4 then
            t = substitute(t)
        end
        w[index] = bxor(w[index - words], t)
    end
    return { w = w, rounds = words + 6 }
end

local function aes_block(schedule, a, b, c, d)
    local w, rounds = schedule.w, schedule.rounds
    a, b, c, d = bxor(a, w[0]), bxor(b, w[1]), bxor(c, w[2]), bxor(d, w[3])
    for round = 1, rounds - 1 do
        local k = 4 * round
        a, b, c, d =
            bxor(T0[band(rshift(a, 24), 255)], T1[band(rshift(b, 16), 255)],
                T2[band(rshift(c, 8), 255)], T3[band(d, 255)], w[k]),
            bxor(T0[band(rshift(b, 24), 255)], T1[band(rshift(c, 16), 255)],
                T2[band(rshift(d, 8), 255)], T3[band(a, 255)], w[k + 1]),
            bxor(T0[band(rshift(c, 24), 255)], T1[band(rshift(d, 16), 255)],
                T2[band(rshift(a, 8), 255)], T3[band(b, 255)], w[k + 2]),
            bxor(T0[band(rshift(d, 24), 255)], T1[band(rshift(a, 16), 255)],
                T2[band(rshift(b, 8), 255)], T3[band(c, 255)], w[k + 3])
    end
    local function last(p, q, r, s, k)
        return bxor(bor(lshift(sbox[band(rshift(p, 24), 255)], 24),
            lshift(sbox[band(rshift(q, 16), 255)], 16),
            lshift(sbox[band(rshift(r, 8), 255)], 8), sbox[band(s, 255)]), w[k])
    end
    local k = 4 * rounds
    return last(a, b, c, d, k), last(b, c, d, a, k + 1), last(c, d, a, b, k + 2),
        last(d, a, b, c, k + 3)
end

-- GCM (NIST SP 800-38D) ----------------------------------------------------------------------------

local reduction

local function shift_right(x)
    local carry = band(x[4], 1)
    local y = { rshift(x[1], 1), bor(rshift(x[2], 1), lshift(band(x[1], 1), 31)),
        bor(rshift(x[3], 1), lshift(band(x[2], 1), 31)),
        bor(rshift(x[4], 1), lshift(band(x[3], 1), 31)) }
    if carry == 1 then y[1] = bxor(y[1], 0xE1000000) end
    return y
end

-- multiples of H by four bits, and what falls out when four bits are shifted out
local function ghash_table(h)
    if not reduction then
        reduction = {}
        for index = 0, 15 do
            local x = { 0, 0, 0, index }
            for _ = 1, 4 do x = shift_right(x) end
            reduction[index] = x[1]
        end
    end
    local M = { [0] = { 0, 0, 0, 0 }, [8] = h }
    local x = h
    for _, power in ipairs({ 4, 2, 1 }) do
        x = shift_right(x)
        M[power] = x
    end
    for index = 1, 15 do
        if not M[index] then
            local sum = { 0, 0, 0, 0 }
            for _, power in ipairs({ 8, 4, 2, 1 }) do
                if band(index, power) ~= 0 then
                    for part = 1, 4 do sum[part] = bxor(sum[part], M[power][part]) end
                end
            end
            M[index] = sum
        end
    end
    return M
end

local function ghash(M, text)
    local a, b, c, d = 0, 0, 0, 0
    for at = 1, #text, 16 do
        local x = { bxor(a, word_be(text, at)), bxor(b, word_be(text, at + 4)),
            bxor(c, word_be(text, at + 8)), bxor(d, word_be(text, at + 12)) }
        a, b, c, d = 0, 0, 0, 0
        for part = 4, 1, -1 do
            local word = x[part]
            for shift = 0, 28, 4 do
                local out = reduction[band(d, 15)]
                d = bor(rshift(d, 4), lshift(band(c, 15), 28))
                c = bor(rshift(c, 4), lshift(band(b, 15), 28))
                b = bor(rshift(b, 4), lshift(band(a, 15), 28))
                a = bxor(rshift(a, 4), out)
                local m = M[band(rshift(word, shift), 15)]
                a, b, c, d = bxor(a, m[1]), bxor(b, m[2]), bxor(c, m[3]), bxor(d, m[4])
            end
        end
    end
    return bytes_be(a) .. bytes_be(b) .. bytes_be(c) .. bytes_be(d)
end

local function padded(text)
    return text .. rep("\0", -#text % 16)
end

local function gcm_open(key, nonce, sealed, aad)
    local schedule = aes_schedule(key)
    local M = ghash_table({ aes_block(schedule, 0, 0, 0, 0) })
    local text, tag = sub(sealed, 1, -17), sub(sealed, -16)
    local n1, n2, n3 = word_be(nonce, 1), word_be(nonce, 5), word_be(nonce, 9)
    local lengths = number_be(#aad * 8, 8) .. number_be(#text * 8, 8)
    local digest = ghash(M, padded(aad) .. padded(text) .. lengths)
    local function pad(counter)
        local a, b, c, d = aes_block(schedule, n1, n2, n3, counter)
        return bytes_be(a) .. bytes_be(b) .. bytes_be(c) .. bytes_be(d)
    end
    if xor(digest, pad(1)) ~= tag then return nil end
    local out = {}
    for at = 1, #text, 16 do
        local block = sub(text, at, at + 15)
        out[#out + 1] = xor(block, pad(2 + (at - 1) / 16))
    end
    return concat(out)
end

-- ChaCha20-Poly1305 (RFC 8439) ---------------------------------------------------------------------

local function chacha_block(key, counter, nonce)
    local s = { 0x61707865, 0x3320646E, 0x79622D32, 0x6B206574 }
    for index = 0, 7 do s[5 + index] = word_le(key, 4 * index + 1) end
    s[13] = counter
    for index = 0, 2 do s[14 + index] = word_le(nonce, 4 * index + 1) end
    local x = {}
    for index = 1, 16 do x[index] = s[index] end
    local function quarter(a, b, c, d)
        x[a] = tobit(x[a] + x[b]); x[d] = rol(bxor(x[d], x[a]), 16)
        x[c] = tobit(x[c] + x[d]); x[b] = rol(bxor(x[b], x[c]), 12)
        x[a] = tobit(x[a] + x[b]); x[d] = rol(bxor(x[d], x[a]), 8)
        x[c] = tobit(x[c] + x[d]); x[b] = rol(bxor(x[b], x[c]), 7)
    end
    for _ = 1, 10 do
        for column = 1, 4 do quarter(column, column + 4, column + 8, column + 12) end
        quarter(1, 6, 11, 16); quarter(2, 7, 12, 13); quarter(3, 8, 9, 14); quarter(4, 5, 10, 15)
    end
    local out = {}
    for index = 1, 16 do out[index] = bytes_le(tobit(x[index] + s[index])) end
    return concat(out)
end

local LIMB, LIMBS = 4194304, 6 -- numbers as six limbs of 22 bits: products stay below 2^53

local function limbs_of(text)
    local bits, limbs, value, have = 0, {}, 0, 0
    for at = 1, #text do
        value = value + byte(text, at) * 2 ^ have
        have = have + 8
        if have >= 22 then
            limbs[#limbs + 1] = value % LIMB
            value = floor(value / LIMB)
            have = have - 22
        end
        bits = bits + 8
    end
    limbs[#limbs + 1] = value
    while #limbs < LIMBS do limbs[#limbs + 1] = 0 end
    return limbs
end

local function carry(h)
    for index = 1, LIMBS do
        local over = floor(h[index] / LIMB)
        h[index] = h[index] % LIMB
        if index < LIMBS then
            h[index + 1] = h[index + 1] + over
        else
            h[1] = h[1] + over * 20 -- 2^132 is 4 * 5 modulo 2^130 - 5
        end
    end
end

local function poly1305(key, text)
    local r = {}
    for at = 1, 16 do
        local value = byte(key, at)
        if at % 4 == 0 then value = value % 16 end
        if at % 4 == 1 and at > 1 then value = value - value % 4 end
        r[at] = char(value)
    end
    r = limbs_of(concat(r))
    local h = { 0, 0, 0, 0, 0, 0 }
    for at = 1, #text, 16 do
        local block = limbs_of(sub(text, at, at + 15) .. "\1")
        for index = 1, LIMBS do h[index] = h[index] + block[index] end
        local product = { 0, 0, 0, 0, 0, 0 }
        for i = 1, LIMBS do
            for j = 1, LIMBS do
                local k = i + j - 1
                local value = h[i] * r[j]
                if k > LIMBS then k, value = k - LIMBS, value * 20 end
                product[k] = product[k] + value
            end
        end
        h = product
        carry(h)
        carry(h)
    end
    carry(h)
    -- reduce fully: the top limb has 20 bits below 2^130
    for _ = 1, 2 do
        local over = floor(h[LIMBS] / 1048576)
        h[LIMBS] = h[LIMBS] % 1048576
        h[1] = h[1] + over * 5
        carry(h)
    end
    local g, more = {}, 5
    for index = 1, LIMBS do
        local value = h[index] + more
        g[index], more = value % LIMB, floor(value / LIMB)
    end
    if g[LIMBS] >= 1048576 then
        h = g
        h[LIMBS] = h[LIMBS] - 1048576
    end
    local s, out, value, have, limb = sub(key, 17, 32), {}, 0, 0, 1
    local over = 0
    for at = 1, 16 do
        if have < 8 and limb <= LIMBS then
            value = value + h[limb] * 2 ^ have
            have, limb = have + 22, limb + 1
        end
        local sum = value % 256 + byte(s, at) + over
        out[at], over = char(sum % 256), floor(sum / 256)
        value, have = floor(value / 256), have - 8
    end
    return concat(out)
end

local function chacha_open(key, nonce, sealed, aad)
    local text, tag = sub(sealed, 1, -17), sub(sealed, -16)
    local lengths = number_le(#aad, 8) .. number_le(#text, 8)
    local one_time = sub(chacha_block(key, 0, nonce), 1, 32)
    if poly1305(one_time, padded(aad) .. padded(text) .. lengths) ~= tag then return nil end
    local out = {}
    for at = 1, #text, 64 do
        local block = sub(text, at, at + 63)
        out[#out + 1] = xor(block, chacha_block(key, 1 + (at - 1) / 64, nonce))
    end
    return concat(out)
end

S.ciphers = {
    ["aes-128-gcm"] = { key = 16, open = gcm_open },
    ["aes-256-gcm"] = { key = 32, open = gcm_open },
    ["chacha20-poly1305"] = { key = 32, open = chacha_open },
}

-- the IV with a 64-bit sequence number, least significant byte first, exclusive-or'ed in
function S.nonce(iv, sequence)
    return xor(iv, number_le(sequence, 12))
end

function S.bytes(hex)
    return (hex:gsub("%x%x", function(pair) return char(tonumber(pair, 16)) end))
end

function S.hex(text)
    return (text:gsub(".", function(each) return string.format("%02x", byte(each)) end))
end
