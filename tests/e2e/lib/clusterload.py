# SPDX-License-Identifier: BSD-3-Clause
# What an application writes to a cluster: commands that are not idempotent, several keys of one
# slot at once, or (to a single server) of many; and a ledger of what was answered.
#
# Keys are "{tag}kind:number". The ledger's own keys are never deleted, renamed or expired: what the
# server has of them must be what was answered, and may be what was sent and never answered.
import random
from dataclasses import dataclass, field

from .chaoswriter import GAMBLE, LIBRARY, TRANSFER
from .resp import ReplyError
from .route import SLOTS, Unit, slot_of, tag_of

ACCOUNTS = 6             # of each tag; together they always hold 0
CONSUMERS = (b"c0", b"c1", b"c2", b"c3")
LEDGER_TICK = "redis.call('INCR',KEYS[1]) return redis.call('RPUSH',KEYS[2],ARGV[1])"
# of one tag's accounts; ARGV: their name but for the number
SUM = """local s=0 for i=0,%d do s=s+(redis.call('GET',ARGV[1]..i) or 0) end
return s""" % (ACCOUNTS - 1)
TYPED = ("st", "n", "l", "s", "z", "h", "x", "b", "p", "g")


def draw_tags(seed, count, slots=None):
    """Tags of as many slots, of these or of all."""
    return [tag_of(s) for s in random.Random("%s/tags" % seed).sample(
        sorted(slots) if slots else range(SLOTS), count)]


class Load:
    """What one connection writes. cross: how often the keys of one command may be of several
    slots; newer: how often a command of later versions comes."""

    def __init__(self, rng, number, tags, cross=0.0, expiry="long", newer=0.0, functions=True):
        self.rng, self.number, self.tags, self.cross = rng, number, tags, cross
        self.n, self.tag, self.loose, self.functions = 0, tags[0], False, functions
        kinds = [(self.ledger, 40), (self.plain, 22), (self.collections, 20), (self.streams, 8),
                 (self.several, 20), (self.transfers, 10), (self.scripts, 6), (self.any_type, 4),
                 (self.lasting, 6)]
        if expiry == "short":
            kinds.append((self.sessions, 12))
        if newer:
            kinds.append((self.newer, 100 * newer))
        self.kinds, self.weights = zip(*kinds)

    def next(self):
        """Units, in the order in which they are to be sent."""
        self.tag = self.rng.choice(self.tags)
        self.loose = self.rng.random() < self.cross
        made = self.rng.choices(self.kinds, self.weights)[0]()
        slot = slot_of("{%s}" % self.tag)
        if isinstance(made, Unit):
            made.slot = slot
            return [made]
        return [Unit([c], slot) for c in made]

    def key(self, kind, n=2):
        tag = self.rng.choice(self.tags) if self.loose else self.tag
        return "{%s}%s:%d" % (tag, kind, self.rng.randrange(n))

    def mark(self):
        self.n += 1
        return "%d/%d" % (self.number, self.n)

    def group(self, *commands):
        return [("MULTI",), *commands, ("EXEC",)]

    # -- what is accounted for -----------------------------------------------------------------
    def ledger(self):
        r, m, f = self.rng, self.mark(), "m%d" % self.rng.randrange(9)
        k = lambda kind: "{%s}led:%s" % (self.tag, kind)
        by = r.randrange(1, 50)
        unit = lambda claims, *commands: Unit(list(commands), note=claims)
        return r.choice((
            lambda: unit([("sum", k("n"), 1)], ("INCR", k("n"))),
            lambda: unit([("sum", k("n"), by)], ("INCRBY", k("n"), by)),
            lambda: unit([("mark", k("l"), m)], ("RPUSH", k("l"), m)),
            lambda: unit([("mark", k("r"), m)], ("LPUSH", k("r"), m)),
            lambda: unit([("mark", k("a"), m)], ("APPEND", k("a"), m + ",")),
            lambda: unit([("mark", k("x"), m)], ("XADD", k("x"), "*", "m", m)),
            lambda: unit([("sum", k("z") + " " + f, by)], ("ZINCRBY", k("z"), by, f)),
            lambda: unit([("sum", k("h") + " " + f, by)], ("HINCRBY", k("h"), f, by)),
            lambda: unit([("mark", k("q"), m)], ("LPUSH", k("q0"), m)),
            lambda: unit([], ("RPOPLPUSH", k("q0"), k("q1"))),
            lambda: unit([("sum", k("n"), 1), ("mark", k("l"), m)],
                         ("EVAL", LEDGER_TICK, 2, k("n"), k("l"), m)),
            lambda: unit([("sum", k("n"), by), ("mark", k("a"), m), ("mark", k("l"), m)],
                         *self.group(("INCRBY", k("n"), by), ("APPEND", k("a"), m + ","),
                                     ("RPUSH", k("l"), m))),
        ))()

    def transfers(self):
        """Within a tag; loose: between two tags, then only all accounts together hold 0."""
        r, n = self.rng, self.rng.randrange(1, 1000)
        family = "xacct" if self.loose else "acct"
        a, b = self.key(family, ACCOUNTS), self.key(family, ACCOUNTS)
        return r.choice((
            lambda: Unit(self.group(("INCRBY", a, -n), ("INCRBY", b, n))),
            lambda: Unit(self.group(("INCRBY", a, -n), ("SET", self.key("st"), self.mark()),
                                    ("DECRBY", b, -n))),
            lambda: [("EVAL", TRANSFER, 2, a, b, n)],
            lambda: [("FCALL", "move", 2, a, b, n)],
        ))()

    # -- one key -------------------------------------------------------------------------------
    def plain(self):
        r, m = self.rng, self.mark()
        st, n, b = self.key("st"), self.key("n"), self.key("b")
        return r.choice((
            lambda: [("SET", st, m)], lambda: [("SET", st, r.randbytes(r.randrange(300)))],
            lambda: [("APPEND", st, m)], lambda: [("SETRANGE", st, r.randrange(200), m)],
            lambda: [("GETSET", st, m)], lambda: [("GETDEL", st)], lambda: [("INCR", n)],
            lambda: [("DECRBY", n, r.randrange(50))],
            lambda: [("INCRBYFLOAT", self.key("f"), "%.2f" % r.uniform(-5, 9))],
            lambda: [("SETBIT", b, r.randrange(900), r.randrange(2))],
            lambda: [("BITFIELD", b, "INCRBY", "u8", r.randrange(64), 3)],
            lambda: [("PFADD", self.key("p"), m)], lambda: [("DEL", self.key(r.choice(TYPED)))],
        ))()

    def collections(self):
        r, m, f = self.rng, self.mark(), "m%d" % self.rng.randrange(40)
        li, s, z, h, g = (self.key(k) for k in "lszhg")
        return r.choice((
            lambda: [("LPUSH", li, m)], lambda: [("RPUSH", li, m, m + "b")], lambda: [("LPOP", li)],
            lambda: [("RPOP", li)], lambda: [("LINSERT", li, "BEFORE", m, "x")],
            lambda: [("LTRIM", li, -60, -1)], lambda: [("LSET", li, 0, m)],
            lambda: [("SADD", s, f, m)], lambda: [("SPOP", s)], lambda: [("SPOP", s, 3)],
            lambda: [("SREM", s, f)], lambda: [("SADD", s, f)],
            lambda: [("ZINCRBY", z, "%.1f" % r.uniform(-2, 5), f)], lambda: [("ZADD", z, 1, f)],
            lambda: [("ZADD", z, "INCR", 1, f)], lambda: [("ZPOPMIN", z)],
            lambda: [("ZREMRANGEBYRANK", z, 30, -1)],
            lambda: [("HINCRBY", h, f, r.randrange(-3, 9))], lambda: [("HSET", h, f, m)],
            lambda: [("HINCRBYFLOAT", h, "fl", "0.3")], lambda: [("HDEL", h, f)],
            lambda: [("GEOADD", g, "%.5f" % r.uniform(-170, 170), "%.5f" % r.uniform(-80, 80), f)],
        ))()

    def streams(self):
        x, who, m = self.key("x"), "c%d" % self.rng.randrange(len(CONSUMERS)), self.mark()
        ack = "local p=redis.call('XPENDING',KEYS[1],'g','-','+',2) for i=1,#p do " \
              "redis.call('XACK',KEYS[1],'g',p[i][1]) end return #p"
        return self.rng.choice((
            lambda: [("XADD", x, "*", "m", m)], lambda: [("XADD", x, "MAXLEN", 60, "*", "m", m)],
            lambda: [("XGROUP", "CREATE", x, "g", "0", "MKSTREAM")],
            lambda: [("XADD", x, "*", "n", m), ("XGROUP", "CREATE", x, "g", "0"),
                     ("XREADGROUP", "GROUP", "g", who, "COUNT", 3, "STREAMS", x, ">")],
            lambda: [("XADD", x, "*", "n", m),
                     ("XREADGROUP", "GROUP", "g", who, "COUNT", 1, "STREAMS", x, ">")],
            lambda: [("EVAL", ack, 1, x)],
            lambda: [("XAUTOCLAIM", x, "g", who, 0, "0", "COUNT", 2)],
            lambda: [("XTRIM", x, "MAXLEN", "~", 100)],
        ))()

    def any_type(self):
        """A key that is of one type now and of another then: errors belong to it."""
        a, m, r = self.key("any", 2), self.mark(), self.rng
        other = self.key(r.choice(("st", "l", "s", "z", "h", "any")))
        return r.choice((
            lambda: [("SET", a, m)], lambda: [("DEL", a), ("RPUSH", a, m)],
            lambda: [("DEL", a), ("SADD", a, m)], lambda: [("HSET", a, "f", m)],
            lambda: [("LPUSH", a, m)], lambda: [("APPEND", a, m)], lambda: [("RENAME", other, a)],
            lambda: [("COPY", other, a, "REPLACE")], lambda: [("SUNIONSTORE", a, self.key("s"))],
            lambda: Unit(self.group(("DEL", a), ("ZADD", a, 1, m), ("INCR", self.key("n")))),
        ))()

    def lasting(self):
        """Deadlines that nothing but their own exactness can lose."""
        t, r, ms = self.key("t"), self.rng, 900_000 + self.rng.randrange(10**8)
        return r.choice((
            lambda: [("INCR", t), ("PEXPIRE", t, ms)], lambda: [("SET", t, self.n, "PX", ms)],
            lambda: [("EXPIRE", t, ms // 1000)], lambda: [("PERSIST", t)],
            lambda: [("SET", t, self.n, "KEEPTTL")], lambda: [("GETEX", t, "PX", ms)],
            lambda: [("SETEX", t, ms // 1000, self.n)], lambda: [("PEXPIRE", self.key("l"), ms)],
            lambda: [("PEXPIRE", self.key("any", 2), ms)],
        ))()

    def sessions(self):
        """Keys that die soon unless they are renewed, and mostly are."""
        s, r, ms = self.key("sess"), self.rng, self.rng.randrange(150, 3000)
        return r.choice((
            lambda: [("INCR", s), ("PEXPIRE", s, ms)],
            lambda: Unit(self.group(("APPEND", s, r.randrange(10)), ("PEXPIRE", s, ms))),
            lambda: [("SET", s, r.randrange(100), "PX", ms)], lambda: [("PERSIST", s)],
            lambda: [("PEXPIRE", s, -1)], lambda: [("GETEX", s, "EX", 1)],
        ))()

    # -- several keys --------------------------------------------------------------------------
    def several(self):
        """Of one slot, or of several where that is allowed."""
        return self.rng.choice((self.keyspace, self.moves, self.stores, self.pops, self.mixed))()

    def keyspace(self):
        r, m = self.rng, self.mark()
        kind = r.choice(TYPED)
        a, b, c = (self.key(kind) for _ in range(3))
        sts = [x for _ in range(r.randrange(1, 5)) for x in (self.key("st"), m)]
        new = [x for _ in range(2) for x in (self.key("nx"), m)]
        return r.choice((
            lambda: [("DEL", a, b, c)], lambda: [("UNLINK", self.key(r.choice(TYPED)), a)],
            lambda: [("TOUCH", a, b)], lambda: [("MSET", *sts)], lambda: [("MSET", *sts)],
            lambda: [("MSETNX", *new)], lambda: [("DEL", *new[::2])], lambda: [("RENAME", a, b)],
            lambda: [("RENAMENX", a, b)], lambda: [("COPY", a, b)],
            lambda: [("COPY", a, b, "REPLACE")],
        ))()

    def moves(self):
        r, f = self.rng, "m%d" % self.rng.randrange(40)
        a, b = self.key("l"), self.key("l")
        end = lambda: r.choice(("LEFT", "RIGHT"))
        return r.choice((
            lambda: [("LMOVE", a, b, end(), end())], lambda: [("RPOPLPUSH", a, b)],
            lambda: [("RPUSH", a, self.mark()), ("BLMOVE", a, b, end(), end(), "0.01")],
            lambda: [("RPUSH", a, self.mark()), ("BRPOPLPUSH", a, b, "0.01")],
            lambda: [("SMOVE", self.key("s"), self.key("s"), f)],
        ))()

    def stores(self):
        r, f = self.rng, "m%d" % self.rng.randrange(40)
        k = self.key
        return r.choice((
            lambda: [("SUNIONSTORE", k("s"), k("s"), k("s"))],
            lambda: [("SINTERSTORE", k("s"), k("s"), k("s"))],
            lambda: [("SDIFFSTORE", k("s"), k("s"), k("s"))],
            lambda: [("ZUNIONSTORE", k("z"), 2, k("z"), k("z"), "WEIGHTS", 2, 1)],
            lambda: [("ZINTERSTORE", k("z"), 2, k("z"), k("s"), "AGGREGATE", "MAX")],
            lambda: [("ZDIFFSTORE", k("z"), 2, k("z"), k("z"))],
            lambda: [("ZRANGESTORE", k("z"), k("z"), 0, 9)],
            lambda: [("BITOP", r.choice(("AND", "OR", "XOR")), k("b"), k("b"), k("b"), k("st"))],
            lambda: [("BITOP", "NOT", k("b"), k("b"))],
            lambda: [("PFMERGE", k("p"), k("p"), k("p"))],
            lambda: [("GEOSEARCHSTORE", k("near"), k("g"), "FROMLONLAT", 0, 0, "BYRADIUS", 9000,
                      "km")],
            lambda: [("GEORADIUS", k("g"), 10, 10, 8000, "km", "STORE", k("near"))],
            lambda: [("GEORADIUSBYMEMBER", k("g"), f, 7000, "km", "STOREDIST", k("near"))],
            lambda: [("SORT", k("l"), "ALPHA", "STORE", k("l"))],
            lambda: [("SORT", k("s"), "ALPHA", "DESC", "LIMIT", 0, 9, "STORE", k("sorted"))],
        ))()

    def pops(self):
        r, who = self.rng, "c%d" % self.rng.randrange(len(CONSUMERS))
        li, z = [self.key("l"), self.key("l")], [self.key("z"), self.key("z")]
        x, y = self.key("x"), self.key("x")
        return r.choice((
            lambda: [("LMPOP", 2, *li, "LEFT", "COUNT", 2)], lambda: [("ZMPOP", 2, *z, "MIN")],
            lambda: [("BLMPOP", "0.01", 2, *li, "RIGHT")],
            lambda: [("BZMPOP", "0.01", 2, *z, "MAX")],
            lambda: [("RPUSH", li[1], self.mark()), ("BLPOP", *li, "0.01")],
            lambda: [("BRPOP", *li, "0.01")], lambda: [("BZPOPMIN", *z, "0.01")],
            lambda: [("XADD", x, "*", "m", self.mark()),
                     ("XGROUP", "CREATE", y, "g", "0", "MKSTREAM"),
                     ("XREADGROUP", "GROUP", "g", who, "COUNT", 2, "STREAMS", x, y, ">", ">")],
        ))()

    def mixed(self):
        m, k = self.mark(), self.key
        return self.rng.choice((
            lambda: [("EVAL", GAMBLE, 3, k("n"), k("l"), k("h"))],
            lambda: Unit(self.group(("INCR", k("n")), ("RPUSH", k("l"), m), ("SADD", k("s"), m))),
            lambda: Unit(self.group(("RENAME", k("l"), k("l")), ("APPEND", k("st"), m),
                                    ("SUNIONSTORE", k("s"), k("s"), k("s")))),
            lambda: Unit(self.group(("DEL", k("h"), k("z")), ("HSET", k("h"), "f", m),
                                    ("ZADD", k("z"), 1, m))),
            lambda: [("FCALL", "tick", 2, k("n"), k("l"))],
        ))()

    def scripts(self):
        if self.number == 0 and self.functions and self.rng.random() < 0.05:
            return Unit([("FUNCTION", "LOAD", "REPLACE", LIBRARY % self.n)], note="everywhere")
        k = self.key
        return self.rng.choice((
            lambda: [("EVAL", GAMBLE, 3, k("n"), k("l"), k("h"))],
            lambda: [("FCALL", "tick", 2, k("n"), k("l"))],
            lambda: [("EVAL", "for i=1,20 do redis.call('SADD',KEYS[1],i) end", 1, k("s"))],
            lambda: [("SPUBLISH", k("channel"), self.mark())],
        ))()

    def newer(self):
        """What a server that does not know it answers with an error."""
        r, h, f = self.rng, self.key("hfe"), "f%d" % self.rng.randrange(9)
        ms = 900_000 + r.randrange(10**8)
        return r.choice((
            lambda: [("MSETEX", 2, self.key("st"), 1, self.key("st"), 2, "PX", ms)],
            lambda: [("HSET", h, f, self.mark(), "stays", 1)],
            lambda: [("HPEXPIRE", h, ms, "FIELDS", 1, f)],
            lambda: [("HSETEX", h, "PX", ms, "FIELDS", 1, f, "v")],
            lambda: [("HGETDEL", h, "FIELDS", 1, f)],
        ))()


# -- what came of it -------------------------------------------------------------------------------
@dataclass
class Ledger:
    """What the ledger's keys must hold. sums: {"key" or "key field": [answered, unknown]},
    marks: {key: ([answered, in this order], [unknown])}."""
    sums: dict = field(default_factory=dict)
    marks: dict = field(default_factory=dict)

    def note(self, claims, answered):
        at = 0 if answered else 1
        for kind, key, what in claims:
            if kind == "sum":
                self.sums.setdefault(key, [0, 0])[at] += what
            else:
                self.marks.setdefault(key, ([], []))[at].append(what)

    def add(self, other):
        for key, (a, b) in other.sums.items():
            mine = self.sums.setdefault(key, [0, 0])
            mine[0] += a
            mine[1] += b
        for key, parts in other.marks.items():
            for mine, part in zip(self.marks.setdefault(key, ([], [])), parts):
                mine += part

    def problems(self, router, limit=20):
        """What the server does not have as it was answered, in words."""
        out = []
        keys = list(self.sums)
        for key, n in zip(keys, router.calls([read_sum(k) for k in keys])):
            answered, unknown = self.sums[key]
            if not answered <= (n := int(float(n or 0))) <= answered + unknown:
                out.append("%s is %d, answered were %d (and unknown %d)" % (key, n, answered,
                                                                            unknown))
        for key, (answered, unknown) in self.marks.items():
            found = read_marks(router, key)
            out += ["%s: %s" % (key, w) for w in compare_marks(
                found, answered, unknown, ordered=not key.endswith(":q"))]
        return out[:limit] + (["and %d more" % (len(out) - limit)] if len(out) > limit else [])


def read_sum(name):
    key, _, member = name.partition(" ")
    kind = key.rsplit(":", 1)[1]
    return {"n": ("GET", key), "z": ("ZSCORE", key, member), "h": ("HGET", key, member)}[kind]


def read_marks(router, key):
    """In the order in which they were written."""
    kind = key.rsplit(":", 1)[1]
    if kind == "a":
        found = (router.call("GET", key) or b"").rstrip(b",").split(b",")
    elif kind == "x":
        found = [f[1] for _, f in router.call("XRANGE", key, "-", "+")]
    elif kind == "q":
        found = [m for part in "01" for m in router.call("LRANGE", key + part, 0, -1)]
    else:
        found = router.call("LRANGE", key, 0, -1)[::-1 if kind == "r" else 1]
    return [m.decode() for m in found if m]


def compare_marks(found, answered, unknown, ordered):
    there = set(found)
    if len(there) < len(found):
        yield "%d marks twice, %s" % (len(found) - len(there),
                                      [m for m in found if found.count(m) > 1][:4])
    lost = [m for m in answered if m not in there]
    if lost:
        yield "%d of %d marks lost, %s" % (len(lost), len(answered), lost[:4])
    strange = there - set(answered) - set(unknown)
    if strange:
        yield "%d marks nobody wrote, %s" % (len(strange), sorted(strange)[:4])
    if ordered and not lost:
        for who in {m.split("/")[0] for m in answered}:
            sure = set(m for m in answered if m.split("/")[0] == who)
            if [m for m in found if m in sure] != [m for m in answered if m in sure]:
                yield "marks of connection %s are out of order" % who


def account_sums(router, tags):
    """{tag: sum of its accounts} where it is not 0: some group has been torn apart."""
    sums = router.calls([("EVAL", SUM, 1, "{%s}acct:0" % t, "{%s}acct:" % t) for t in tags])
    return {t: s for t, s in zip(tags, sums) if isinstance(s, ReplyError) or s}


def cross_sum(router, tags):
    """Of all accounts that groups across slots have changed: 0 as long as nobody writes."""
    keys = ["{%s}xacct:%d" % (t, i) for t in tags for i in range(ACCOUNTS)]
    return sum(int(v or 0) for v in router.calls([("GET", k) for k in keys]))
