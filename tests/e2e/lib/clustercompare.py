# SPDX-License-Identifier: BSD-3-Clause
# The judge, for clusters: are two sides of any shape equal, key by key, wherever each key is.
#
# A cluster, or several databases that go into one, are read as one server (Union), and compared by
# compare.py. Beyond that, no key may be on two nodes, or on one that does not own its slot.
import time

from .compare import CHECKPOINT, Comparison, Result, as_map, scan_keys
from .resp import ReplyError
from .route import first_key, slot_of, text

LOST_WAY = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN")


class Place:
    """A database of a node, and what is found there. owns(slot)."""

    def __init__(self, name, conn, owned=None):
        self.name, self.conn, self.owned = name, conn, owned

    def owns(self, slot):
        return self.owned is None or slot in self.owned


class Union:
    """Several places with the face of one Client, for Comparison."""

    def __init__(self, places):
        self.places = places
        self.at = {}       # key -> place
        self.wrong = []    # (key, what)

    def scan(self):
        """Keys of all places."""
        self.at, self.wrong = {}, []
        for p in self.places:
            for key in scan_keys(p.conn):
                if key.startswith(CHECKPOINT):
                    continue
                if key in self.at:
                    self.wrong.append((key, "is on %s and on %s" % (self.at[key].name, p.name)))
                if not p.owns(slot_of(key)):
                    self.wrong.append((key, "is on %s, which does not own its slot" % p.name))
                    if key in self.at:
                        continue
                self.at[key] = p
        return self.at.keys()

    def place(self, key):
        """Where a key is; where it would be, if it is nowhere."""
        slot = slot_of(key)
        return self.at.get(key) or next((p for p in self.places if p.owns(slot)), self.places[0])

    # -- the face of a Client ------------------------------------------------------------------
    def call(self, *args):
        name = text(args[0]).upper()
        if name == "SCAN":
            return [b"0", list(self.scan())]
        if name == "SELECT":
            return b"OK"
        if name == "FUNCTION":
            return self.same_everywhere(args)
        key = first_key(args)
        conn = (self.place(key) if key is not None else self.places[0]).conn
        return conn.call(*args)

    def same_everywhere(self, args):
        replies = [p.conn.call(*args) for p in self.places]
        told = [{m["library_name"]: m.get("library_code") for m in map(as_map, r)} for r in replies]
        for p, t in zip(self.places, told):
            if t != told[0]:
                self.wrong.append((b"", "functions differ between %s and %s" % (
                    self.places[0].name, p.name)))
        return replies[0]

    def pipeline(self, commands, raising=True):
        """Each command to its place; replies in the order of the commands."""
        flights, out = {}, [None] * len(commands)
        for i, c in enumerate(commands):
            flights.setdefault(id(p := self.place(first_key(c))), (p, []))[1].append(i)
        for p, at in flights.values():
            replies = p.conn.pipeline([commands[i] for i in at], raising)
            for i, r in zip(at, replies):
                if isinstance(r, ReplyError) and str(r).startswith(LOST_WAY):
                    raise AssertionError("%s does not serve what it owned before: %s" % (p.name, r))
                out[i] = r
        return out

    def info(self, section="everything"):
        """Of all together only which databases are in use matters: all is in the first."""
        if section != "keyspace":
            return self.places[0].conn.info(section)
        used = any(k.startswith("db") for p in self.places for k in p.conn.info("keyspace"))
        return {"db0": "keys=1"} if used else {}

    def close(self):
        for p in self.places:
            p.conn.close()


class View:
    """A shape as Comparison wants a server: connect(), version, valkey. flatten: all databases of
    its one primary as one."""

    def __init__(self, shape, flatten=False):
        self.shape, self.flatten = shape, flatten
        self.version, self.valkey = shape.version, shape.valkey

    def connect(self, db=0, timeout=300):
        primaries = self.shape.primaries() if hasattr(self.shape, "primaries") else [self.shape]
        if getattr(self.shape, "kind", "") == "cluster":
            return Union([Place("%s:%d" % (p.name, p.port), p.connect(timeout=timeout),
                                p.myself().slots) for p in primaries])
        if self.flatten:
            with primaries[0].connect() as c:
                dbs = sorted(int(k[2:]) for k in c.info("keyspace") if k.startswith("db"))
            return Union([Place("db%d of %s" % (d, primaries[0].name),
                                primaries[0].connect(d, timeout=timeout)) for d in dbs or [0]])
        return primaries[0].connect(db, timeout=timeout)


class PlacedResult(Result):
    """Says of each key its slot, and where it is on both sides."""
    sides = ()

    def differ(self, db, key, what):
        if key and isinstance(key, bytes) and db != "-":
            at = ["%s %s" % (name, c.place(key).name) for name, c in
                  zip(("source", "target"), self.sides) if isinstance(c, Union)]
            what = "%s (slot %d%s)" % (what, slot_of(key), "".join("; " + x for x in at))
        super().differ(db, key, what)


class ClusterComparison(Comparison):
    """source, target: a Shape, or a Server; flatten: databases of the source are one here."""

    def __init__(self, source, target, flatten=False, limit=20, **kw):
        super().__init__(View(source, flatten), View(target), limit=limit, **kw)
        self.result = PlacedResult(limit=limit)
        self.result.sides = self.a, self.b

    def run(self):
        result = super().run()
        for name, c in (("source", self.a), ("target", self.b)):
            for key, what in c.wrong if isinstance(c, Union) else ():
                if key not in self.ignore:
                    result.differ(0, key, "%s: %s" % (name, what))
        return result


def compare(source, target, settle_s=0.0, **kw):
    """settle_s: looked at again after that time if not equal: what is wrong stays wrong, and keys
    may have run out between two looks."""
    r = ClusterComparison(source, target, **kw).run()
    if r.count and settle_s:
        time.sleep(settle_s)
        r = ClusterComparison(source, target, **kw).run()
    return r


def assert_equal(source, target, **kw):
    r = compare(source, target, **kw)
    assert r.count == 0, str(r)
    return r
