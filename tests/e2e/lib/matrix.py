# SPDX-License-Identifier: BSD-3-Clause
# Moves of a pair of servers with a writer running, and what came of them.
import importlib.machinery
import importlib.util
import os
import re
import tempfile
import time
import zlib
from dataclasses import dataclass, field

from .compare import compare
from .dataset import Sizes, fill
from .mover import ROOT, Keyhaul
from .resp import ReplyError
from .server import Server, binary_version, find_servers
from .writer import Writer

SIZES = Sizes(small_keys=800, string_bytes=2 << 20, hash_fields=3000, list_items=3000,
              set_members=3000, zset_members=3000, stream_entries=2000, element_bytes=5000)
WRITE_S = float(os.environ.get("KEYHAUL_MATRIX_WRITE_S") or 1.2)
DEGRADE = ("--on-unsupported", "degrade")
CONTINUE = ("--on-error", "continue")

# What the target may have no place for: first versions that have it (redis, valkey), by which words
# of keyhaul's log one knows that it said so, and whether it refuses by default.
FIELDS, FUNCTIONS = "expiry of hash fields", "functions"
VECTORS = "vector sets"
COUNTERS, ACTIVE, IDMP = "stream counters", "consumers' last activity", "idempotent producers"
PARTS = {
    FIELDS: ((7, 4), (9, 0), r"expiry of hash fields|fields that expire", True),
    VECTORS: ((8, 0), None, r"vector sets|vec:.*lost everything", True),
    FUNCTIONS: ((7, 0), None, r"FUNCTION|functions", True),
    COUNTERS: ((7, 0), None, r"lost counters of the stream", False),
    ACTIVE: ((7, 2), None, r"lost when the stream's consumers were last active", False),
    IDMP: ((8, 6), None, r"idempotent producers", False),
}


def known_names():
    """Those that tests/servers knows, oldest first of each family."""
    loader = importlib.machinery.SourceFileLoader("servers", os.path.join(ROOT, "tests", "servers"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("servers", loader))
    loader.exec_module(module)
    return list(module.SERVERS)


def find_by_name():
    """{name: binary}: of the known names those that are here; the machine's own counts as the one
    whose version it has."""
    found = find_servers()
    default = found.pop("default", None)
    if default:
        valkey, version = binary_version(default)
        name = "%s-%d.%d" % ("valkey" if valkey else "redis", *version[:2])
        found.setdefault(name, default)
    return found


def ordered_pairs(names):
    """All of them. Each n in a row have every server once as source and once as target."""
    n = len(names)
    shifts = sorted(range(n), key=lambda k: (k * 3 + 4) % max(n, 1))
    return [(names[i], names[(i + k) % n]) for k in shifts for i in range(n)]


def lacking(source, target):
    """Parts that the source has and the target has not."""
    return {name for name, (redis, valkey, _, _) in PARTS.items()
            if source.since(redis, valkey) and not target.since(redis, valkey)}


def told(log):
    """Parts that keyhaul's errors, and its warnings where it happened, name."""
    lines = [x for x in log.splitlines() if x.startswith("keyhaul:") or " ERROR " in x
             or (" WARN " in x and "cannot hold" not in x)]
    return {name for name, (_, _, words, _) in PARTS.items()
            if any(re.search(words, x) for x in lines)}


class Servers:
    """Running servers by name and side, kept between pairs, emptied for each."""

    def __init__(self, binaries):
        self.binaries, self.up = binaries, {}

    def get(self, name, side):
        if (name, side) not in self.up:
            self.up[name, side] = Server(binary=self.binaries[name],
                                         name="%s-%s" % (side, name)).start()
        s = self.up[name, side]
        with s.connect() as c:
            c.call("FLUSHALL")
            if s.version >= (7, 0, 0):
                c.call("FUNCTION", "FLUSH")
        return s

    def stop(self):
        for s in self.up.values():
            s.stop()
        self.up = {}


class Move:
    """keyhaul from source to target while a writer writes: status, what it said, differences."""

    def __init__(self, source, target, options, folder):
        self.source, self.target = source, target
        self.lacking = lacking(source, target)
        seed = zlib.crc32(b"%d.%d to %d.%d" % (source.version[:2] + target.version[:2]))
        fill(source, SIZES, newest=True)
        with Writer(source, newer=0.4, seed=seed) as w:
            time.sleep(0.1)
            self.k = Keyhaul(source, target, *options, folder=tempfile.mkdtemp(dir=folder))
            self.follow(w)
        self.finish()

    def follow(self, writer):
        """Until the stream has been followed for a while, or keyhaul has ended."""
        end, streaming = time.monotonic() + 60, None
        while self.k.status() is None and time.monotonic() < end:
            if streaming is None and self.k.phase() in ("catch-up", "stream"):
                streaming = time.monotonic()
            if streaming and time.monotonic() - streaming > WRITE_S:
                break
            time.sleep(0.02)
        self.commands = writer.stop()["commands"]

    def finish(self):
        if FIELDS in self.lacking and self.k.status() is None:
            time.sleep(1.5)  # fields run out on the source only, and it tells of them when it does
        try:
            if self.k.status() is None:
                self.k.wait_caught_up()
                self.k.terminate()
        except (AssertionError, ReplyError):
            pass  # it ended meanwhile: what with is judged by the status
        self.status = self.k.wait()
        self.told = told(self.k.stderr)
        self.k.close()

    def differences(self):
        """None; else in words. What has been told as lost is not compared."""
        vectors = VECTORS in self.told & self.lacking
        refused = re.findall(r'target refused .*\(database \d+, key "([^"]*)"\)', self.k.stderr)
        r = compare(self.source, self.target, lost_types={b"vectorset"} if vectors else (),
                    functions=FUNCTIONS not in self.told & self.lacking, ignore=refused,
                    unsent=(b"c0", b"c1", b"c2"), settled=(b"stream:", b"ttl:", b"big:"))
        self.keys = r.keys
        return str(r) if r.count else None

    def last_words(self):
        lines = [x for x in self.k.stderr.splitlines() if x.startswith("keyhaul:")]
        return lines[-1] if lines else self.k.said[-300:]


@dataclass
class Outcome:
    """Of a pair. lost: parts that keyhaul said it left behind, refused: by default, with why."""
    lost: set = field(default_factory=set)
    refused: str = ""
    keys: int = 0
    commands: int = 0
    faults: list = field(default_factory=list)

    def word(self):
        if self.faults:
            return "FAULT"
        return "refused" if self.refused else "degraded" if self.lost else "equal"

    def judge(self, move, statuses):
        """Its status is one of these, it named just what is lost, and all else is equal."""
        if move.status not in statuses:
            self.faults.append("status %s, not %s: %s" % (move.status, statuses, move.last_words()))
            return
        if move.told != move.lacking:
            self.faults.append("told of %s, lacking is %s" % (sorted(move.told),
                                                              sorted(move.lacking)))
        what = move.differences()
        if what:
            self.faults.append("unequal, and did not say so: " + what)
        self.keys, self.commands = move.keys, move.commands


def run_pair(servers, names, folder):
    """By default; where that is refused, with all that may be left behind left behind; where hash
    fields are among it, also with errors passed over."""
    def move(*options):
        return Move(servers.get(names[0], "source"), servers.get(names[1], "target"), options,
                    folder)

    out, m = Outcome(), move()
    hard = {p for p in m.lacking if PARTS[p][3]}
    if not hard:
        out.judge(m, (0,))
    elif m.status != (3 if hard - {VECTORS} else 1) or not m.told & hard:
        out.faults.append("should have been refused for %s, status %s, told of %s" % (
            sorted(hard), m.status, sorted(m.told)))
    if hard:
        out.refused = m.last_words()
        out.judge(move(*DEGRADE), (0,))
    if FIELDS in hard:
        out.judge(move(*CONTINUE), (4,))
    out.lost = m.lacking
    return out
