"""The Wireshark dissector: a small runtime in Lua, and tables made from the declarations.

    lua         Python values as Lua source
    fields      `FieldTable`: the filterable fields, one for each element of each declaration
    layouts     the declarations as tables that the runtime walks
    tables      algorithms, codes, rules and constants that the runtime looks things up in
    dissector   `dissector`: all of it as one Lua file; where Wireshark looks for it
    runtime/    what is written by hand

Nothing that a message is made of stands in the runtime: a message declared in `spdmkit.messages`
is dissected, and its fields can be filtered for, without a line of Lua.
"""
