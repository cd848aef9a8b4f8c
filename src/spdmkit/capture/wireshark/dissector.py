"""The dissector as one Lua file, and where Wireshark looks for it."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any

from spdmkit import __version__
from spdmkit.capture.wireshark.layouts import Layouts
from spdmkit.capture.wireshark.lua import literal, string
from spdmkit.capture.wireshark.tables import constants
from spdmkit.errors import ConfigurationError
from spdmkit.messages import RequestCode, ResponseCode

__all__ = ["FILE_NAME", "dissector", "install", "plugin_folder"]

FILE_NAME = "spdm.lua"
RUNTIME = ("crypto", "walker", "sessions", "follow", "show", "bindings")
"""The parts written by hand, in the order in which they are loaded."""

_HEAD = """\
-- SPDM for Wireshark and tshark: made by `spdm wireshark install` of spdmkit {version}.
-- Made from the declarations of the messages; changes here are lost when it is made again.
-- SPDX-License-Identifier: Apache-2.0

local S = {{}}
local bit = bit
if not bit then -- Lua 5.3 and newer have operators instead, which older ones cannot even read
    bit = assert(load([[
        local function signed(x)
            x = x & 0xFFFFFFFF
            return x < 0x80000000 and x or x - 0x100000000
        end
        local function whole(x) return math.tointeger(x) & 0xFFFFFFFF end
        local function over(step)
            return function(first, ...)
                local x = whole(first)
                for _, each in ipairs({{ ... }}) do x = step(x, whole(each)) end
                return signed(x)
            end
        end
        local function turn(x, by) return signed(x << by | x >> (32 - by)) end
        return {{
            band = over(function(a, b) return a & b end),
            bor = over(function(a, b) return a | b end),
            bxor = over(function(a, b) return a ~ b end),
            bnot = function(x) return signed(~whole(x)) end,
            lshift = function(x, by) return signed(whole(x) << by) end,
            rshift = function(x, by) return signed(whole(x) >> by) end,
            rol = function(x, by) return turn(whole(x), by % 32) end,
            ror = function(x, by) return turn(whole(x), (32 - by) % 32) end,
            tobit = function(x) return signed(whole(x)) end,
        }}
    ]]))()
end
S.proto = Proto("spdm", "Security Protocol and Data Model")
local expert_group, expert_severity = expert.group, expert.severity
"""


def dissector() -> str:
    """The source of the dissector, for Lua 5.1 to 5.4."""
    layouts = Layouts()
    parts = [_HEAD.format(version=__version__), "S.fields = {"]
    parts += [
        f"    [{string(path)}] = {field.source()}," for path, field in layouts.fields.fields.items()
    ]
    codes = {int(code): code.name for each in (RequestCode, ResponseCode) for code in each}
    parts.append(
        '    ["spdm_version"] = ProtoField.uint8("spdm.spdm_version", "SPDMVersion", base.HEX),\n'
        '    ["code"] = ProtoField.uint8("spdm.code", "RequestResponseCode", base.HEX, '
        f"{literal(codes)}),"
    )
    parts.append("}\n")
    parts += _tables("structures", layouts.structures)
    parts += _tables("messages", layouts.messages)
    parts += [f"S.{name} = {literal(value)}" for name, value in constants().items()]
    for name in RUNTIME:
        parts.append(f"\ndo -- {name} {'-' * (90 - len(name))}\n\n{_runtime(name)}\nend")
    return "\n".join(parts) + "\n"


def _tables(name: str, tables: dict[Any, dict[str, Any]]) -> list[str]:
    """Tables of declarations, one element a line."""
    lines = [f"S.{name} = {{"]
    for key, made in tables.items():
        rest = {each: value for each, value in made.items() if each != "elements"}
        lines.append(f"    [{literal(key)}] = {{ {literal(rest)[2:-2]}, elements = {{")
        lines += [f"        {literal(element)}," for element in made["elements"]]
        lines.append("    } },")
    return [*lines, "}\n"]


def _runtime(name: str) -> str:
    folder = resources.files("spdmkit.capture.wireshark") / "runtime"
    return (folder / f"{name}.lua").read_text(encoding="utf-8")


def plugin_folder() -> Path:
    """The folder for a person's own Lua plugins: that of Wireshark, on any system it runs on."""
    if os.name == "nt":
        base = os.environ.get("APPDATA")
        return (Path(base) if base else Path.home()) / "Wireshark" / "plugins"
    # Not what XDG_DATA_HOME says: Wireshark looks beside its own prefix, which is this.
    return Path.home() / ".local" / "lib" / "wireshark" / "plugins"


def install(folder: Path) -> Path:
    """Write the dissector into a folder, made when it is not there; gives the file.

    Raises:
        ConfigurationError: it cannot be written.
    """
    path = folder / FILE_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(dissector(), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
    return path
