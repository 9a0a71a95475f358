# SPDX-License-Identifier: BSD-3-Clause
# The command table against COMMAND of the real servers at hand: nothing missing, nothing different.
import os
import re

import pytest

from lib.server import find_servers

TABLE = os.path.join(os.path.dirname(__file__), "../../src/wire/cmd_table.inc")
ROW = re.compile(r'ROW\("([^"]+)", (-?\d+), ([A-Z_ |0]+), (-?\d+), (-?\d+), (-?\d+), (\w+), (\w+)\)')
NOT_WANTED = {"HOST:", "POST", "STRALGO"}  # as in tools/gen-commands
# Laxer than later servers, to which the table is held: what they say of the number of arguments.
LAX = {("PFDEBUG", "redis-6.0"): -3}
LAX_MODULES = {"redis-8.0": -1}  # of each command that a module brings: it tells no number there


def read_table():
    with open(TABLE, encoding="utf-8") as f:
        return {m[0]: {"arity": int(m[1]), "flags": m[2], "keys": tuple(map(int, m[3:6])),
                       "rule": m[6], "layout": m[7]} for m in ROW.findall(f.read())}


def text(b):
    return b.decode() if isinstance(b, bytes) else str(b)


def flags_of(fields):
    return {text(flag) for flag in fields[2]}


@pytest.mark.parametrize("name", sorted(find_servers()))
def test_table_knows_the_server(server, name):
    table = read_table()
    assert len(table) > 290
    commands = server(name, binary=find_servers()[name]).call("COMMAND")
    assert len(commands) > 200
    for fields in commands:
        cmd = text(fields[0]).upper()
        if cmd in NOT_WANTED:
            continue
        assert cmd in table, cmd + " is not in the table"
        ours, flags = table[cmd], flags_of(fields)
        subs = fields[9] if len(fields) > 9 else []
        for sub in subs:
            flags |= flags_of(sub)
        if "write" in flags:
            assert "CMD_WRITE" in ours["flags"], cmd
        elif "readonly" in flags and "CMD_WRITE" not in ours["flags"]:
            assert "CMD_READONLY" in ours["flags"] or ours["rule"] != "PASS" or not fields[3], cmd
        lax = LAX_MODULES.get(name) if "module" in flags else LAX.get((cmd, name))
        if lax:
            assert fields[1] == lax != ours["arity"], cmd
        else:
            # a later version may take more arguments, not fewer
            assert abs(ours["arity"]) <= abs(fields[1]) or cmd == "XTRIM", cmd
            assert ours["arity"] < 0 or fields[1] > 0, cmd
        if not subs and ours["layout"] == "RANGE":
            assert ours["keys"] == (fields[3], fields[4], fields[5]), cmd
        if "movablekeys" in flags:
            assert ours["layout"] != "RANGE", cmd
