# SPDX-License-Identifier: BSD-3-Clause
# What the command table calls idempotent is applied twice, to real servers: each command in all its
# forms, and stretches of a real replication stream, from any point on, over what they have left.
import os
import random

import pytest

from lib.resp import Client, ReplyError
from lib.server import find_servers
from test_commands import read_table

SERVERS = [n for n in ("default", "redis-6.0", "redis-8.6", "valkey-9.1") if n in find_servers()]
ROUNDS = int(os.environ.get("KEYHAUL_IDEMPOTENT_ROUNDS", 1000))
FAR, FARTHER = 4102444800000, 4202444800000
TABLE = read_table()


def is_idempotent(c):
    """As cmd_is_idempotent()."""
    name, words = c[0].upper(), [str(w).upper() for w in c[1:]]
    if name == "SET":
        rest = words[2:]
        while rest:
            if rest[0] in ("EXAT", "PXAT") and len(rest) > 1:
                rest = rest[2:]
            elif rest[0] in ("NX", "XX", "GET", "KEEPTTL"):
                rest = rest[1:]
            else:
                return False
        return True
    if name == "ZADD":
        rest = words[1:]
        while rest and rest[0] == "CH":
            rest = rest[1:]
        return bool(rest) and rest[0] not in ("NX", "XX", "GT", "LT", "INCR")
    if name.startswith("RESTORE"):
        return "REPLACE" in words[3:] and ("ABSTTL" in words[3:] or words[1] == "0")
    return "CMD_IDEMPOTENT" in TABLE.get(name, {"flags": ""})["flags"]


# {}: a key. Each form of each command that is, whatever the server.
FORMS = {
    "SET": ["{} v", "{} v NX", "{} v XX", "{} v KEEPTTL", "{} v PXAT %d" % FAR,
            "{} v XX PXAT %d" % FAR, "{} v EXAT %d" % (FAR // 1000), "{} v GET", "{} w XX KEEPTTL"],
    "SETNX": ["{} v"], "GETSET": ["{} v"], "MSET": ["{} v", "{} v {}2 w {} x"],
    "SETBIT": ["{} 3 1", "{} 3 0", "{} 700 1"], "SETRANGE": ["{} 0 abc", "{} 9 x", "{} 0 abcdefgh"],
    "DEL": ["{}", "{} {}2"], "UNLINK": ["{}", "{} {}2"],
    "EXPIREAT": ["{} %d" % (FAR // 1000)],
    "PEXPIREAT": ["{} %d" % FAR, "{} %d NX" % FAR, "{} %d XX" % FAR, "{} %d GT" % FARTHER,
                  "{} %d LT" % FAR],
    "PERSIST": ["{}"], "SADD": ["{} a", "{} a b 1"],
    "HSET": ["{} f v", "{} f v g w"], "HSETNX": ["{} f v", "{} new v"], "HMSET": ["{} f v g w"],
    "HPERSIST": ["{} FIELDS 1 f", "{} FIELDS 2 f new"],
    "PFADD": ["{} a", "{} a b c", "{}"],
    "XDEL": ["{} 1-1", "{} 1-1 9-9"], "XACK": ["{} g 1-1", "{} g 9-9 1-1"],
    "FLUSHALL": ["", "ASYNC"], "FLUSHDB": ["", "ASYNC"],
    "ZADD": ["{} 1 a", "{} CH 5 a 6 b", "{} 1 a 2 a"],
    "RESTORE": ["{} 0 payload REPLACE", "{} %d payload ABSTTL REPLACE" % FAR],
}
STATES = [  # what stands under {}
    [],
    [("SET", "{}", "value")],
    [("SET", "{}", "value"), ("PEXPIREAT", "{}", FARTHER - 5)],
    [("RPUSH", "{}", "a", "b")],
    [("SADD", "{}", "a", "c")],
    [("SADD", "{}", "a"), ("PEXPIREAT", "{}", FARTHER - 5)],
    [("ZADD", "{}", 1, "a", 9, "c")],
    [("HSET", "{}", "f", "old")],
    [("HSET", "{}", "f", "old"), ("HPEXPIREAT", "{}", FARTHER - 5, "FIELDS", 1, "f")],
    [("PFADD", "{}", "a", "x"), ("PFCOUNT", "{}")],
    [("XADD", "{}", "1-1", "f", "v"), ("XADD", "{}", "2-1", "f", "v"),
     ("XGROUP", "CREATE", "{}", "g", "0"),
     ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "{}", ">")],
]


@pytest.fixture(scope="module", params=SERVERS)
def some(request, running):
    """Of each server at hand."""
    return running(request.param)


def read_value(c, key, kind):
    if kind == "string":
        return c.call("GET", key)
    if kind == "list":
        return c.call("LRANGE", key, 0, -1)
    if kind == "set":
        return sorted(c.call("SMEMBERS", key))
    if kind == "zset":
        return c.call("ZRANGE", key, 0, -1, "WITHSCORES")
    if kind == "hash":
        flat = c.call("HGETALL", key)
        fields = sorted(zip(flat[::2], flat[1::2]))
        ttl = c.pipeline([("HPEXPIRETIME", key, "FIELDS", len(fields), *[f for f, _ in fields])],
                         raising=False)[0] if fields else []
        return fields, [] if isinstance(ttl, ReplyError) else ttl
    assert kind == "stream", kind
    groups = c.call("XINFO", "GROUPS", key)
    # who has what pending, and how often it was delivered, not when
    pending = [[p[:2] + p[3:] for p in c.call("XPENDING", key, g[1], "-", "+", 99)] for g in groups]
    return c.call("XRANGE", key, "-", "+"), groups, pending


def state(c):
    """Everything that is there."""
    out = {}
    for key in sorted(c.call("KEYS", "*")):
        kind = c.call("TYPE", key).decode()
        at = c.pipeline([("PEXPIRETIME", key)], raising=False)[0]
        if isinstance(at, ReplyError):  # before 7.0
            left = c.call("PTTL", key)
            at = left if left < 0 else round(left / 1e7)  # all are years away
        out[key] = kind, at, read_value(c, key, kind)
    return out


def test_every_command_has_forms():
    flagged = {n for n, row in TABLE.items() if "CMD_IDEMPOTENT" in row["flags"]}
    assert flagged | {"ZADD", "RESTORE"} == set(FORMS)
    for name, forms in FORMS.items():
        for form in forms:
            assert is_idempotent((name, *form.split())), (name, form)


def test_twice(some):
    """Once is twice, whatever is there, whether it takes effect or not."""
    did = set()
    with some.connect() as c:
        c.call("SET", "other", "1", "EX", 90000)
        payload = c.call("DUMP", "other")
        known = {n for n in FORMS if c.call("COMMAND", "INFO", n)[0]}
        for name in sorted(known):
            for form in FORMS[name]:
                words = [name] + [payload if w == "payload" else w.replace("{}", "key")
                                  for w in form.split()]
                for before in STATES:
                    c.call("FLUSHALL")
                    c.pipeline([[str(w).replace("{}", "key") for w in x] for x in before],
                               raising=False)
                    first = c.pipeline([words], raising=False)[0]
                    once = state(c)
                    c.pipeline([words], raising=False)
                    assert state(c) == once, (words, before)
                    if not isinstance(first, ReplyError):
                        did.add(name)
    assert did == known


class Stream:
    """What a server sends its replicas, in units: commands, or all of a transaction."""

    def __init__(self, server):
        self.c = Client(server.address, timeout=60)
        self.c.call("REPLCONF", "capa", "psync2")
        self.c.send(b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n")
        while not (line := self.c.line()).startswith(b"$"):
            assert line == b"" or line.startswith(b"+FULLRESYNC"), line
        n = int(line[1:])
        self.c.fill(n) if len(self.c.buf) - self.c.pos < n else None
        self.c.pos += n

    def until(self, mark):
        """All before SET mark ..."""
        units, inside = [], None
        while True:
            cmd = self.c.read()
            name = cmd[0].upper()
            if name == b"SET" and cmd[1] == mark:
                return units
            if name == b"MULTI":
                inside = []
            elif name == b"EXEC":
                units.append(inside)
                inside = None
            elif name not in (b"PING", b"SELECT", b"REPLCONF"):
                (units if inside is None else inside).append([cmd] if inside is None else cmd)

    def close(self):
        self.c.close()


def goes_bare(unit):
    """As the fan sees it: what belongs together goes as a transaction."""
    return len(unit) == 1 and is_idempotent([w.decode("latin-1") for w in unit[0]])


class Draw:
    """An application's commands: each time some few, of one kind of value, on one key or two, so
    that they meet each other."""

    def __init__(self, rng, newer):
        self.r, self.newer, self.n = rng, newer, 0

    def __iter__(self):
        r = self.r
        kind = r.choice(list(KINDS))
        draw = KINDS[kind] + KINDS["any"]
        if self.newer:
            draw = draw + NEWER.get(kind, [])
        bare = [x for x in draw if is_idempotent(x.split())]
        some = r.sample(bare, min(len(bare), r.randrange(2, 7))) + r.sample(draw, r.randrange(3))
        second = r.choice([kind, "other", r.choice(list(KINDS))])
        for _ in range(40):
            self.n += 1
            words = {"k": kind, "l": second, "m": "m%d" % r.randrange(2), "n": r.randrange(4),
                     "bit": r.randrange(2), "at": FAR + 1000 * r.randrange(9),
                     "new": "%d-1" % self.n, "id": "%d-1" % (self.n - r.randrange(6))}
            yield [w.format(**words) for w in r.choice(some).split()]


KINDS = {
    "string": ["SET {k} {n}", "SET {k} {n} PXAT {at}", "SETNX {k} {n}", "GETSET {k} {n}",
               "SET {k} {n} KEEPTTL", "SET {k} {n} XX", "SET {k} {n} NX", "SETRANGE {k} {n} {bit}",
               "SETBIT {k} {n} {bit}", "MSET {k} {n} {l} abc", "APPEND {k} {n}", "INCR {k}",
               "RENAME {k} {l}", "COPY {k} {l}", "GETDEL {k}", "SET {l} {n}"],
    "set": ["SADD {k} {m}", "SADD {k} {m} m1", "SREM {k} {m}", "SPOP {k}", "SMOVE {k} {l} {m}",
            "SUNIONSTORE {l} {k} {l}", "RENAME {k} {l}", "SET {k} {n}"],
    "hash": ["HSET {k} {m} {n}", "HSETNX {k} {m} {n}", "HMSET {k} {m} {n} m1 2", "HDEL {k} {m}",
             "HINCRBY {k} {m} 2", "COPY {k} {l} REPLACE", "SET {k} {n}"],
    "zset": ["ZADD {k} {n} {m}", "ZADD {k} CH {n} {m} 2 m1", "ZADD {k} NX {n} {m} 2 m1",
             "ZADD {k} GT {n} {m} 2 m1", "ZREM {k} {m}", "ZREMRANGEBYSCORE {k} 2 3",
             "ZINCRBY {k} {n} {m}", "ZPOPMIN {k}", "ZADD {k} XX INCR 1 {m}",
             "ZRANGESTORE {l} {k} 0 0"],
    "sketch": ["PFADD {k} {m} {n}", "PFADD {k} {n}", "PFCOUNT {k}", "PFMERGE {l} {k}",
               "PFADD {l} z", "SET {k} {n}"],
    "stream": ["XADD {k} {new} f v", "XDEL {k} {id}", "XGROUP CREATE {k} g 0", "XACK {k} g {id}",
               "XREADGROUP GROUP g c STREAMS {k} >", "XTRIM {k} MAXLEN 2", "XSETID {k} {new}"],
    "any": ["DEL {k}", "UNLINK {k} {l}", "PEXPIREAT {k} {at}", "PEXPIREAT {k} {at} GT",
            "PEXPIREAT {k} {at} NX", "PERSIST {k}", "RPUSH {k} {n}"],
}
NEWER = {
    "string": ["SET {k} {n} IFEQ {bit}", "SET {k} {bit} IFEQ {n}"],
    "hash": ["HPEXPIREAT {k} {at} FIELDS 1 {m}", "HPERSIST {k} FIELDS 1 {m}"],
}


def apply(c, units):
    """WRONGTYPE is met where a key has changed its type since."""
    replies = c.pipeline([cmd for u in units for cmd in u], raising=False) if units else []
    return [str(r) for r in replies if isinstance(r, ReplyError) and "WRONGTYPE" not in str(r)]


def test_stretches_again(some, server):
    """What comes after the last change that counts, applied again from any point on."""
    rng = random.Random(7)
    newer = some.version >= (8, 0, 0)
    again = server("again", binary=some.binary)
    draw, stretches, bare = Draw(rng, newer), 0, 0
    stream = Stream(some)
    with some.connect() as s, again.connect() as t:
        for i in range(ROUNDS):
            mark = b"mark:%d" % i
            s.call("FLUSHALL")
            s.pipeline(list(draw), raising=False)
            s.call("SET", mark, "x")
            units = stream.until(mark)
            for _ in range(4 if units else 0):
                end = rng.randrange(1, len(units) + 1)
                first = end
                while first and goes_bare(units[first - 1]):
                    first -= 1
                begin = rng.randrange(first, end) if first < end else end
                t.call("FLUSHALL")
                apply(t, units[:end])
                once = state(t)
                assert apply(t, units[begin:end]) == []
                assert state(t) == once, units[begin:end]
                stretches += end - begin > 1
                bare += end - begin
    stream.close()
    assert stretches > ROUNDS / 2 and bare > ROUNDS * 3
