# SPDX-License-Identifier: BSD-3-Clause
# What a server holds against a manifest of tests/golden: one line per key, its content as SHA-256.
#
# The canonical form is told in tests/golden/rdb/README.md. Only what the server says over RESP
# counts; nothing of keyhaul is used.
import hashlib
import struct
import time
from dataclasses import dataclass, field

from .compare import as_map, pairs, scan_keys
from .resp import ReplyError, encode

LARGE_LIST = 5000


def has_field_ttl(server):
    return server.version >= ((9, 0, 0) if server.valkey else (7, 4, 0))


@dataclass
class Key:
    """A line of a manifest. None: not told."""
    db: int
    name: bytes
    type: str
    expires: int
    sha256: str
    freq: int = None
    idle: int = None
    fields: dict = field(default_factory=dict)
    stream: dict = field(default_factory=dict)

    @property
    def at(self):
        return self.db, self.name


@dataclass
class Manifest:
    keys: dict
    functions: set
    module_aux: bool = False


def number(text):
    return {"-": None, "?": "?"}[text] if text in "-?" else int(text)


def read_group(text):
    name, read, consumers, *pending = text.split(":", 3)
    times = {}
    for p in filter(None, pending[0].split(",") if pending else ()):
        i, _, at = p.partition("@")
        times[i.encode()] = int(at)
    return bytes.fromhex(name), {
        "read": number(read), "times": times,
        "consumers": {bytes.fromhex(c) for c in consumers.split(",") if c}}


def read_stream(text):
    out = {"groups": {}}
    for part in text.split(";") if text != "-" else ():
        if part.startswith("g:"):
            name, group = read_group(part[2:])
            out["groups"][name] = group
        elif part.startswith("idmp="):
            out["idmp"] = [int(x) for x in part[5:].split(",")]
        elif part and not part.startswith("p:"):
            out.update(f.split("=") for f in part.split(","))
    return out


def read_manifest(path):
    m = Manifest({}, set())
    with open(path) as f:
        for line in f:
            kind, *col = line.rstrip("\n").split("\t")
            if kind == "key":
                db, name, kind, expires, sha, freq, idle, fields, stream = col
                k = Key(int(db), bytes.fromhex(name), kind, int(expires), sha, number(freq),
                        number(idle), stream=read_stream(stream))
                if fields != "-":
                    k.fields = {bytes.fromhex(x): int(at) for x, at in
                                (p.split("=") for p in fields.split(","))}
                m.keys[k.at] = k
            elif kind == "function":
                m.functions.add(bytes.fromhex(col[0]))
            elif kind == "module-aux":
                m.module_aux = True
    return m


# -- canonical content -------------------------------------------------------------------------
def lengthy(*strings):
    """B(x) of each: length in 32 bits, bytes."""
    return b"".join([struct.pack(">I", len(s)) + s for s in strings])


def stream_id(i):
    return struct.pack(">QQ", *map(int, i.split(b"-")))


def large_list(c, key, seen):
    """A list whose reply is taken apart by split(): a million elements in half a second."""
    c.send(encode(("LRANGE", key, 0, -1)) + encode(("PING",)))
    head = c.line()
    end = b"+PONG\r\n"
    parts = [c.buf[c.pos:]]
    c.buf, c.pos = b"", 0
    while not (parts[-1].endswith(end) or b"".join(parts[-2:]).endswith(end)):
        c.fill()
        parts.append(c.buf)
        c.buf = b""
    raw = b"".join(parts)[:-len(end)]
    mark = hashlib.sha256(raw).digest()
    if mark not in seen:
        t = raw.split(b"\r\n")
        heads, items = t[:-1:2], t[1:-1:2]
        assert len(items) == int(head[1:]) and t[-1] == b""
        assert all(int(h[1:]) == len(i) for h, i in zip(heads, items)), "an item with a line end"
        seen[mark] = hashlib.sha256(b"list\0" + lengthy(*items)).hexdigest()
    return seen[mark]


def pending(group):
    """Its entries as XINFO STREAM FULL tells them; the name differs by version."""
    return group["pel"] if "pel" in group else group["pending"]


def stream_content(c, key, facts):
    out = []
    for i, fields in c.call("XRANGE", key, "-", "+"):
        out += [b"E", stream_id(i), struct.pack(">I", len(fields)), lengthy(*fields)]
    out += [b"L", stream_id(facts["last-generated-id"])]
    for g in sorted(map(as_map, facts["groups"]), key=lambda g: g["name"]):
        out += [b"G", lengthy(g["name"]), stream_id(g["last-delivered-id"])]
        for i, consumer, _, n in sorted(pending(g), key=lambda p: stream_id(p[0])):
            out += [b"P", stream_id(i), lengthy(consumer or b""), struct.pack(">Q", n)]
    return b"".join(out)


def digest(kind, data):
    return hashlib.sha256(kind.encode() + b"\0" + data).hexdigest()


def string(db, name, value):
    """A manifest's entry of one's own."""
    return Key(db, name, "string", -1, digest("string", lengthy(value)))


def content(c, key, kind):
    if kind == "string":
        return lengthy(c.call("GET", key))
    if kind == "list":
        return lengthy(*c.call("LRANGE", key, 0, -1))
    if kind == "set":
        return lengthy(*sorted(c.call("SMEMBERS", key)))
    if kind == "hash":
        h = pairs(c.call("HGETALL", key))
        return b"".join([lengthy(f, h[f]) for f in sorted(h)])
    if kind == "zset":
        z = pairs(c.call("ZRANGE", key, 0, -1, "WITHSCORES"))
        return b"".join([lengthy(m) + struct.pack(">d", float(z[m])) for m in sorted(z)])
    raise AssertionError("type %s" % kind)


# -- the check ---------------------------------------------------------------------------------
class Check:
    """Differences between a server and a manifest, in words."""

    def __init__(self, server, seen):
        self.server, self.seen = server, seen
        self.c = server.connect(timeout=300)
        self.found = []

    def differ(self, key, *words):
        self.found.append("db %d %r: %s" % (key.db, key.name, " ".join(map(str, words))))

    def expiry(self, key):
        """Exactly where the server tells, else to the millisecond or two."""
        if self.server.version >= (7, 0, 0):
            at = self.c.call("PEXPIRETIME", key.name)
            return at, at == key.expires
        (s, us), ttl = self.c.pipeline([("TIME",), ("PTTL", key.name)])
        at = ttl if ttl < 0 else int(s) * 1000 + int(us) // 1000 + ttl
        return at, at == key.expires or (ttl > 0 and abs(at - key.expires) <= 2)

    def one(self, key):
        c = self.c
        kind = c.call("TYPE", key.name).decode()
        if kind == "vectorset" and key.type == "module":
            return None  # written as a module's value; a server never writes it twice the same
        if kind != key.type:
            return self.differ(key, "is", kind, "not", key.type)
        self.hints(key)
        at, same = self.expiry(key)
        if not same:
            self.differ(key, "expires", at, "not", key.expires)
        facts = None
        if kind == "list" and c.call("LLEN", key.name) > LARGE_LIST:
            got = large_list(c, key.name, self.seen)
        elif kind == "stream":
            facts = as_map(c.call("XINFO", "STREAM", key.name, "FULL", "COUNT", 0))
            got = digest(kind, stream_content(c, key.name, facts))
        else:
            got = digest(kind, content(c, key.name, kind))
        if got != key.sha256 and not self.lapsed(key):
            self.differ(key, "content of", kind)
        if facts:
            self.stream(key, facts)
        if kind == "hash" and has_field_ttl(self.server):
            self.fields(key)
        return None

    def hints(self, key):
        if key.idle is not None:
            idle = self.c.call("OBJECT", "IDLETIME", key.name)
            if not key.idle <= idle <= key.idle + 60:
                self.differ(key, "idle", idle, "not", key.idle)
        if key.freq is not None:
            try:
                freq = self.c.call("OBJECT", "FREQ", key.name)
            except ReplyError:
                return  # not a server that counts
            if not key.freq - 1 <= freq <= key.freq + 1:
                self.differ(key, "freq", freq, "not", key.freq)

    def fields(self, key):
        names = list(pairs(self.c.call("HGETALL", key.name)))
        got = self.c.call("HPEXPIRETIME", key.name, "FIELDS", len(names), *names)
        got = {n: at for n, at in zip(names, got) if at >= 0}
        dead = self.lapsed(key)
        if got != {n: at for n, at in key.fields.items() if n not in dead} or dead & set(names):
            self.differ(key, "field expiries", len(got), "not", len(key.fields))

    def lapsed(self, key):
        """Fields that were past their time when saved: they are in the file, on no server."""
        now = time.time() * 1000
        return {n for n, at in key.fields.items() if at < now}

    def stream(self, key, facts):
        """What the manifest tells beyond the content, as far as this server has it."""
        want = key.stream
        for name, told in (("first", "recorded-first-entry-id"), ("maxdel", "max-deleted-entry-id"),
                           ("added", "entries-added")):
            if name in want and told in facts and str(want[name]).encode() != (
                    b"%d" % facts[told] if name == "added" else facts[told]):
                self.differ(key, name, facts[told], "not", want[name])
        if "idmp" in want and "idmp-duration" in facts:
            got = [facts[n] for n in ("idmp-duration", "idmp-maxsize", "iids-added",
                                      "iids-duplicates")]
            if got != want["idmp"]:
                self.differ(key, "idmp", got, "not", want["idmp"])
        for g in map(as_map, facts["groups"]):
            w = want["groups"].get(g["name"])
            if w is not None:
                self.group(key, g, w)

    def group(self, key, got, want):
        consumers = {as_map(x)["name"] for x in got["consumers"]}
        if consumers != want["consumers"]:
            self.differ(key, "consumers", consumers, "not", want["consumers"])
        times = {i: at for i, _, at, _ in pending(got)}
        wrong = {i: times.get(i) for i, at in want["times"].items() if times.get(i) != at}
        if wrong:
            self.differ(key, "delivery times", wrong, "not", want["times"])
        told = want["read"] != "?" and "added" in key.stream
        if told and "entries-read" in got and got["entries-read"] != want["read"]:
            self.differ(key, "entries read", got["entries-read"], "not", want["read"])

    def functions(self, want):
        if self.server.version < (7, 0, 0):
            return
        got = {as_map(f)["library_code"] for f in self.c.call("FUNCTION", "LIST", "WITHCODE")}
        if got != want:
            self.found.append("functions: %d, not %d" % (len(got), len(want)))

    def run(self, manifest, absent, loose):
        by_db = {}
        for key in manifest.keys.values():
            by_db.setdefault(key.db, []).append(key)
        used = {int(n[2:]) for n in self.c.info("keyspace") if n[2:].isdigit()}
        for db in sorted(used | set(by_db)):
            self.c.call("SELECT", db)
            keys = by_db.get(db, [])
            there = scan_keys(self.c)
            want = {k.name for k in keys if k.at not in absent}
            maybe = {n for d, n in loose if d == db}
            for n in sorted((there ^ want) - maybe):
                self.found.append("db %d %r: %s" % (db, n, "too much" if n in there else "missing"))
            for k in keys:
                if k.name in there & want and k.at not in loose:
                    self.one(k)
        self.c.call("SELECT", 0)
        self.functions(manifest.functions)
        self.c.close()
        return self.found


def differences(server, manifest, absent=(), loose=(), seen=None):
    """absent: keys (db, name) of the manifest that must not be there; loose: not looked at."""
    return Check(server, {} if seen is None else seen).run(manifest, set(absent), set(loose))
