# SPDX-License-Identifier: BSD-3-Clause
# Any version to any version: each server as source, each as target, with a writer running.
#
# A part of all pairs runs by default, as many as fit into $KEYHAUL_MATRIX_SECONDS (60). `make
# matrix` runs them all, and writes $KEYHAUL_MATRIX_DOC.
import os
import time

import pytest

from lib.matrix import PARTS, Servers, find_by_name, known_names, ordered_pairs, run_pair
from lib.mover import keyhaul_binary
from lib.server import binary_version

SECONDS = float(os.environ.get("KEYHAUL_MATRIX_SECONDS") or 60)
DOC = os.environ.get("KEYHAUL_MATRIX_DOC")
FOUND = find_by_name()
HERE = [n for n in known_names() if n in FOUND]
MISSING = [n for n in known_names() if n not in FOUND]
PAIRS = ordered_pairs(HERE)

DOC_HEAD = """# Compatibility

<!-- Made by `make matrix`; do not edit. -->

Every server as source with every server as target: a data set of every type that
the source knows, a writer that uses what the source knows while keyhaul copies
and follows, then a comparison of both sides by what they themselves say, key by
key. The servers are those of Debian's packages.

- **equal**: everything arrived.
- **degraded**: the target has no place for something. keyhaul names it, and ends
  with status 0. All else is equal.
- **refused**: by default keyhaul stops, and names what the target cannot hold:
  before anything is moved where the source counts it (expiry of hash fields,
  functions), else at the first such key. With `--on-unsupported degrade` all else
  arrives, and is equal; each loss is named. See [limits](../limits.md#data).

The numbers tell what the target has no place for. Data that holds none of it
moves as between equals.

"""


class Table:
    def __init__(self):
        self.started = time.monotonic()
        self.cells = {}

    def used_parts(self):
        return [p for p in PARTS if any(p in o.lost for o in self.cells.values())]

    def cell(self, source, target):
        o = self.cells.get((source, target))
        if o is None:
            return "not run"
        notes = [str(i + 1) for i, p in enumerate(self.used_parts()) if p in o.lost]
        return " ".join([o.word(), ", ".join(notes)]).strip()

    def lines(self):
        yield "| from \\ to | " + " | ".join(HERE) + " |"
        yield "|---" * (len(HERE) + 1) + "|"
        for s in HERE:
            yield "| **%s** | " % s + " | ".join(self.cell(s, t) for t in HERE) + " |"

    def legend(self):
        for i, part in enumerate(self.used_parts()):
            yield "%d. %s%s" % (i + 1, part, "" if PARTS[part][3] else " (never refused)")

    def text(self):
        keys = sum(o.keys for o in self.cells.values())
        commands = sum(o.commands for o in self.cells.values())
        versions = ", ".join("%s %s" % (n, version_of(n)) for n in HERE)
        tail = "%d pairs, %d keys compared, %d commands written meanwhile.\nServers: %s.\n" % (
            len(self.cells), keys, commands, versions)
        if MISSING:
            tail += "Not to be had on the machine of this run: %s.\n" % ", ".join(MISSING)
        return (DOC_HEAD + "\n".join(self.legend()) + "\n\n" + "\n".join(self.lines()) + "\n\n" +
                tail)


def version_of(name):
    return ".".join(map(str, binary_version(FOUND[name])[1]))


@pytest.fixture(scope="module")
def table(request):
    t = Table()
    yield t
    say = request.config.pluginmanager.getplugin("terminalreporter").write_line
    say("")
    for line in [*t.legend(), *t.lines()]:
        say(line)
    if DOC and len(t.cells) == len(PAIRS) and not any(o.faults for o in t.cells.values()):
        with open(DOC, "w") as f:
            f.write(t.text())
        say("wrote " + DOC)


@pytest.fixture(scope="module")
def matrix_servers():
    s = Servers(FOUND)
    yield s
    s.stop()


@pytest.mark.parametrize("names", PAIRS, ids=["%s to %s" % p for p in PAIRS])
def test_pair(names, table, matrix_servers, cleanup):
    if time.monotonic() - table.started > SECONDS:
        pytest.skip("not in $KEYHAUL_MATRIX_SECONDS=%g; make matrix runs all" % SECONDS)
    if not os.path.exists(keyhaul_binary()):
        pytest.fail("no %s: run make, or set KEYHAUL" % keyhaul_binary())
    out = table.cells[names] = run_pair(matrix_servers, names, cleanup[1])
    assert not out.faults, "\n".join(out.faults)


if MISSING:
    @pytest.mark.parametrize("name", MISSING)
    def test_server_is_missing(name):
        pytest.skip("no server %s here: tests/servers fetches it, where Debian has it" % name)
