# SPDX-License-Identifier: BSD-3-Clause
# The judge: are two servers equal, key by key, by what they themselves say over RESP.
#
# Nothing of keyhaul is used here. Differences are named, the first ones in full.
import time
from dataclasses import dataclass, field

from .resp import ReplyError

CHECKPOINT = b"keyhaul:checkpoint:"  # the mover's own keys on the target are no data
WINDOW = 20_000  # list items per read
BATCH = 400      # keys per pipeline


@dataclass
class Result:
    keys: int = 0
    elements: int = 0
    differences: list = field(default_factory=list)
    count: int = 0
    limit: int = 20

    def differ(self, db, key, what):
        self.count += 1
        if len(self.differences) < self.limit:
            self.differences.append("db %s key %s: %s" % (db, show(key), what))

    def __str__(self):
        return "%d keys, %d differences%s" % (
            self.keys, self.count, "".join("\n  " + d for d in self.differences))


def show(v, limit=60):
    s = repr(v)
    return s if len(s) <= limit else s[:limit] + "...(%d)" % len(s)


def scan_keys(c):
    keys, cursor = set(), b"0"
    while True:
        cursor, part = c.call("SCAN", cursor, "COUNT", 5000)
        keys.update(part)
        if cursor == b"0":
            return keys


def pairs(reply):
    return dict(zip(reply[::2], reply[1::2]))


def pairs_of(flat):
    return list(zip(flat[::2], flat[1::2]))


def as_map(reply):
    """XINFO's flat field lists, keys as text."""
    return {f.decode(): v for f, v in zip(reply[::2], reply[1::2])}


def stream_facts(reply, entries_read, settled=False):
    """What must be equal of XINFO STREAM ... FULL COUNT 0. settled: nobody uses it meanwhile, so
    that also what servers do not tell their replicas of exactly is equal."""
    m = as_map(reply)
    out = {name: m.get(name) for name in ("length", "last-generated-id", "max-deleted-entry-id",
                                          "entries-added", "recorded-first-entry-id", "entries")}
    if settled:
        out.update((name, m.get(name)) for name in ("idmp-duration", "idmp-maxsize", "pids-tracked",
                                                    "iids-tracked", "iids-added",
                                                    "iids-duplicates"))
        for when in ("seen-time", "active-time"):
            told = {(g["name"], c["name"]): c.get(when) for g in map(as_map, m["groups"])
                    for c in map(as_map, g["consumers"])}
            out[when] = None if None in told.values() else told
    groups = {}
    for g in map(as_map, m["groups"]):
        consumers = {}
        for c in map(as_map, g["consumers"]):
            consumers[c["name"]] = c["pending"] if "pending" in c else c["pel"]
        facts = {"last-delivered-id": g["last-delivered-id"], "pel": g.get("pel", g.get("pending")),
                 "consumers": consumers}
        if entries_read:
            facts["entries-read"] = g.get("entries-read")
        groups[g["name"]] = facts
    out["groups"] = groups
    return out


READ = {  # type -> command for the whole value; lists go by windows
    b"string": lambda k: ("GET", k),
    b"set": lambda k: ("SMEMBERS", k),
    b"hash": lambda k: ("HGETALL", k),
    b"zset": lambda k: ("ZRANGE", k, 0, -1, "WITHSCORES"),
    b"stream": lambda k: ("XINFO", "STREAM", k, "FULL", "COUNT", 0),
    b"list": lambda k: ("LRANGE", k, 0, WINDOW - 1),
}


class Comparison:
    """Compares two servers. db_map: {source db: target db} of what was selected, None: all as is.

    entries_read: compare the groups' logical read counter as well. Redis 7.0's own replicas
    do not keep it once XREADGROUP went through the stream, so it is off by default.

    lost_types: of values that the target may lack, as it has been said. functions: compare them.
    unsent: consumers that may be missing while they have nothing pending: sources do not tell of
    those that XREADGROUP or XAUTOCLAIM made (before Redis 8.8). unsent_either: from the source as
    well, which may be a replica that was not told of them. settled: streams whose names begin
    so are not used while data is moved. late_ms: a key may live so much longer on the target
    (sources before 7.0 send times to live, which count from when they arrive)."""

    def __init__(self, source, target, db_map=None, entries_read=False, ignore=(), limit=20,
                 recheck_s=0.5, other_dbs=(), lost_types=(), functions=True, unsent=(),
                 unsent_either=False, settled=(), late_ms=0):
        self.source, self.target = source, target
        self.a = source.connect(timeout=300)
        self.b = target.connect(timeout=300)
        self.absolute = all(s.version >= (7, 0, 0) for s in (source, target))
        self.field_ttl = all(s.version >= ((9, 0, 0) if s.valkey else (7, 4, 0))
                             for s in (source, target))
        self.db_map = db_map
        self.entries_read = entries_read
        self.recheck_s = recheck_s
        self.other_dbs = set(other_dbs)  # of the target: not looked at
        self.ignore = {k.encode() if isinstance(k, str) else k for k in ignore}
        self.lost_types = set(lost_types)
        self.functions = functions
        self.unsent = set(unsent)
        self.unsent_either = unsent_either
        self.settled = tuple(settled)
        self.late_ms = late_ms
        self.result = Result(limit=limit)

    def run(self):
        try:
            self.compare_databases()
            if self.functions:
                self.compare_functions()
        finally:
            self.a.close()
            self.b.close()
        return self.result

    # -- databases -----------------------------------------------------------------------------
    def used(self, c):
        return {int(k[2:]) for k in c.info("keyspace") if k.startswith("db") and k[2:].isdigit()}

    def compare_databases(self):
        sources, targets = self.used(self.a), self.used(self.b)
        if self.db_map is None:
            todo = {d: d for d in sources | targets}
        else:
            todo = dict(self.db_map)
            for d in targets - set(todo.values()) - self.other_dbs:
                self.result.differ(d, b"", "database should be empty on the target")
        for s, t in sorted(todo.items()):
            self.compare_database(s, t)

    def compare_database(self, s, t):
        self.a.call("SELECT", s)
        self.b.call("SELECT", t)
        self.db = "%d" % s if s == t else "%d->%d" % (s, t)
        keys = (scan_keys(self.a) | scan_keys(self.b)) - self.ignore
        both = sorted(k for k in keys if not k.startswith(CHECKPOINT))
        self.result.keys += len(both)
        suspects = []
        for i in range(0, len(both), BATCH):
            suspects += self.batch(both[i:i + BATCH])
        if suspects:
            time.sleep(self.recheck_s)  # a key may have run out between the two reads: look again
            for key in suspects:
                for what in self.key(key):
                    self.result.differ(self.db, key, what)

    def batch(self, keys):
        """Keys of the batch that do not look equal."""
        ask = [q for k in keys for q in (("TYPE", k), self.expiry_command(k))]
        fa, fb = self.a.pipeline(ask, raising=False), self.b.pipeline(ask, raising=False)
        suspects, plain = [], []
        for i, k in enumerate(keys):
            if fa[2 * i] in self.lost_types and fb[2 * i] in (b"none", fa[2 * i]):
                continue
            if fa[2 * i] != fb[2 * i] or not self.same_expiry(fa[2 * i + 1], fb[2 * i + 1]):
                suspects.append(k)
            elif fa[2 * i] in READ:
                plain.append((k, fa[2 * i]))
            elif fa[2 * i] == b"vectorset" and not self.vectors(k):
                continue
            elif fa[2 * i] != b"none":
                suspects.append(k)
        read = [READ[t](k) for k, t in plain]
        for (k, t), ra, rb in zip(plain, self.a.pipeline(read, raising=False),
                                  self.b.pipeline(read, raising=False)):
            if not self.same_value(k, t, ra, rb):
                suspects.append(k)
        return suspects

    def expiry_command(self, key):
        return ("PEXPIRETIME", key) if self.absolute else ("PTTL", key)

    def same_expiry(self, x, y, inexact_ms=2000):  # PTTL: settled exactly in key()
        if x < 0 or y < 0:
            return x == y
        if self.absolute:
            inexact_ms = 0
        return -inexact_ms <= y - x <= inexact_ms + self.late_ms

    # -- one key -------------------------------------------------------------------------------
    def key(self, key):
        """All that differs of one key, in words."""
        ta, tb = self.a.call("TYPE", key), self.b.call("TYPE", key)
        if ta in self.lost_types and tb in (b"none", ta):
            return []
        if ta != tb:
            if tb == b"none":
                return ["missing on the target (%s)" % ta.decode()]
            if ta == b"none":
                return ["not on the source, but on the target (%s)" % tb.decode()]
            return ["type %s, on the target %s" % (ta.decode(), tb.decode())]
        if ta == b"none":
            return []
        out = []
        ea, eb = self.expiry(self.a, key), self.expiry(self.b, key)
        if not self.same_expiry(ea, eb, 2):
            out.append("expires at %s, on the target %s" % (ea, eb))
        if ta == b"vectorset":
            return out + self.vectors(key)
        if ta not in READ:
            return out + ["type %s is not known to this comparison" % ta.decode()]
        ra, rb = (c.call(*READ[ta](key)) for c in (self.a, self.b))
        if not self.same_value(key, ta, ra, rb):
            out.append(self.explain(key, ta, ra, rb))
        return out

    def vectors(self, key):
        """Elements, each with its vector as the server gives it back, and its attributes."""
        sides = []
        for c in (self.a, self.b):
            m = as_map(c.call("VINFO", key))
            n = c.call("VCARD", key)
            names = sorted(c.call("VRANDMEMBER", key, n + 1))
            asked = [q for e in names for q in (("VEMB", key, e), ("VGETATTR", key, e))]
            sides.append({"info": {f: m.get(f) for f in ("quant-type", "vector-dim", "size",
                                                         "attributes-count")},
                          "elements": dict(zip(names, pairs_of(c.pipeline(asked))))})
        self.result.elements += len(sides[0]["elements"])
        return [] if sides[0] == sides[1] else ["vector set: " + first_difference(*sides)]

    def expiry(self, c, key):
        if self.absolute:
            return c.call("PEXPIRETIME", key)
        before = time.time()
        t, ttl = c.pipeline([("TIME",), ("PTTL", key)])
        del before
        return ttl if ttl < 0 else int(t[0]) * 1000 + int(t[1]) // 1000 + ttl

    def same_value(self, key, kind, ra, rb):
        if isinstance(ra, ReplyError) or isinstance(rb, ReplyError):
            return ra == rb and "WRONGTYPE" not in str(ra)
        self.result.elements += len(ra) if isinstance(ra, list) else 1
        if kind == b"list":
            return ra == rb and (len(ra) < WINDOW or self.same_windows(key))
        if kind == b"stream":
            fa, fb = self.both_facts(key, ra, rb)
            return fa == fb
        if kind == b"set":
            return ra == rb or (len(ra) == len(rb) and set(ra) == set(rb))
        if kind == b"hash":
            same = ra == rb or (len(ra) == len(rb) and pairs(ra) == pairs(rb))
            return same and (not self.field_ttl or self.same_field_ttl(key, ra[::2]))
        if kind == b"zset":
            return ra == rb or (ra[::2] == rb[::2] and
                                [float(x) for x in ra[1::2]] == [float(x) for x in rb[1::2]])
        return ra == rb

    def both_facts(self, key, ra, rb):
        """Facts of a stream on both sides, as far as both servers know them."""
        settled = key.startswith(self.settled)
        counters = self.entries_read or (settled and self.absolute)
        fa, fb = (stream_facts(r, counters, settled) for r in (ra, rb))
        for name in [n for n in fa if fa[n] is None or fb[n] is None]:
            del fa[name], fb[name]
        self.drop_unsent(fa, fb)
        if self.unsent_either:
            self.drop_unsent(fb, fa)
        return fa, fb

    def drop_unsent(self, here, there):
        for name, g in here["groups"].items():
            known = there["groups"].get(name, {"consumers": {}})["consumers"]
            for c in [c for c in g["consumers"] if c in self.unsent and c not in known]:
                if not g["consumers"][c]:
                    del g["consumers"][c]

    def same_windows(self, key):
        at = WINDOW
        while True:
            q = ("LRANGE", key, at, at + WINDOW - 1)
            ra, rb = self.a.call(*q), self.b.call(*q)
            self.result.elements += len(ra)
            if ra != rb:
                return False
            if len(ra) < WINDOW:
                return True
            at += WINDOW

    def same_field_ttl(self, key, fields):
        for i in range(0, len(fields), 1000):
            f = fields[i:i + 1000]
            q = ("HPEXPIRETIME", key, "FIELDS", len(f), *f)
            if self.a.call(*q) != self.b.call(*q):
                return False
        return True

    def explain(self, key, kind, ra, rb):
        """Where two values part, short."""
        if kind == b"stream":
            fa, fb = self.both_facts(key, ra, rb)
            for name in fa:
                if fa[name] != fb[name]:
                    return "stream's %s: %s" % (name, first_difference(fa[name], fb[name]))
        if kind == b"hash" and pairs(ra) == pairs(rb):
            return "hash: field expiries differ"
        if kind == b"hash":
            return "hash: " + first_difference(pairs(ra), pairs(rb))
        if kind == b"set":
            return "set: " + first_difference(dict.fromkeys(ra), dict.fromkeys(rb))
        return "%s: %s" % (kind.decode(), first_difference(ra, rb))

    # -- functions -----------------------------------------------------------------------------
    def compare_functions(self):
        libs = []
        for c, server in ((self.a, self.source), (self.b, self.target)):
            if server.version < (7, 0, 0):
                return
            libs.append({m["library_name"]: m["library_code"]
                         for m in map(as_map, c.call("FUNCTION", "LIST", "WITHCODE"))})
        for name in sorted(libs[0].keys() | libs[1].keys()):
            if libs[0].get(name) != libs[1].get(name):
                self.result.differ("-", name, "function library differs: source %s, target %s" % (
                    *["has it" if name in x else "lacks it" for x in libs],))


def first_difference(a, b):
    if isinstance(a, dict) and isinstance(b, dict):
        for key in list(a) + [x for x in b if x not in a]:
            if key not in a or key not in b:
                return "%s only on the %s" % (show(key), "source" if key in a else "target")
            if a[key] != b[key]:
                return "%s: %s" % (show(key), first_difference(a[key], b[key]))
    if isinstance(a, list) and isinstance(b, list):
        for i, (x, y) in enumerate(zip(a, b)):
            if x != y:
                return "at %d: %s" % (i, first_difference(x, y))
        return "%d elements, on the target %d" % (len(a), len(b))
    if isinstance(a, bytes) and isinstance(b, bytes) and len(a) != len(b):
        return "%d bytes %s, on the target %d bytes %s" % (len(a), show(a), len(b), show(b))
    return "%s, on the target %s" % (show(a), show(b))


def compare(source, target, **kw):
    return Comparison(source, target, **kw).run()


def assert_equal(source, target, **kw):
    r = compare(source, target, **kw)
    assert r.count == 0, str(r)
    return r
