# SPDX-License-Identifier: BSD-3-Clause
# Commands that concern keys of several slots, of a server that is no cluster, between commands of
# single keys that change the same ones. Seeded. Errors of the server are expected: keys change
# their type, or are not there.
import random
import threading

from .resp import ReplyError

KEYS = 6  # of each kind


class CrossLoad:
    """next(): commands in the order in which they are to be sent."""

    def __init__(self, seed, newer=False, flush=0.0, functions=True, search=True):
        self.r, self.n, self.flush, self.functions = random.Random(seed), 0, flush, functions
        self.made = {}  # how often each was drawn
        self.several = [self.store_sets, self.store_sorted, self.store_range, self.sort,
                        self.pfmerge, self.bitop, self.copy, self.rename, self.renamenx,
                        self.move_element, self.block_move, self.smove, self.mset, self.msetnx,
                        self.delete, self.unlink]
        self.several += [self.msetex] if newer else []
        # before 6.2 not by boxes, and what was there stays when there is nothing to be searched
        self.several += [self.store_geo] if search else []
        self.single = [self.strings, self.lists, self.sets, self.sorted, self.hashes, self.sketches,
                       self.geo, self.bits, self.deadlines]

    def next(self):
        r = self.r
        if r.random() < self.flush:
            return [r.choice((("FLUSHDB",), ("FLUSHALL",), ("FLUSHDB", "ASYNC")))]
        if self.functions and r.random() < 0.01:
            return [self.library()]
        n = r.randrange(2, 6) if r.random() < 0.2 else 1
        made = [r.choice(self.several if r.random() < 0.5 else self.single)() for _ in range(n)]
        for c in made:
            self.made[c[0]] = self.made.get(c[0], 0) + 1
        return [("MULTI",), *made, ("EXEC",)] if n > 1 else made

    # -- drawing -------------------------------------------------------------------------------
    def key(self, kind):
        """Of its kind; now and then of any, so that keys change their type."""
        if self.r.random() < 0.02:
            kind = self.r.choice("slzhkpgb")
        return "%s:%d" % (kind, self.r.randrange(KEYS))

    def keys(self, kind, least=1, most=3):
        return [self.key(kind) for _ in range(self.r.randrange(least, most + 1))]

    def member(self):
        return "m%d" % self.r.randrange(25)

    def mark(self):
        self.n += 1
        return "%d" % self.n

    def typed(self):
        return self.r.choice("slzhkpgb")

    # -- several keys --------------------------------------------------------------------------
    def store_sets(self):
        name = self.r.choice(("SUNIONSTORE", "SINTERSTORE", "SDIFFSTORE"))
        return (name, self.key("s"), *self.keys("s", 1, 4))

    def store_sorted(self):
        r, of = self.r, self.keys(self.r.choice("zzs"), 1, 4)
        name = r.choice(("ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE"))
        more = []
        if name != "ZDIFFSTORE" and r.random() < 0.5:
            more += ["WEIGHTS", *[r.randrange(1, 5) for _ in of]]
        if name != "ZDIFFSTORE" and r.random() < 0.5:
            more += ["AGGREGATE", r.choice(("SUM", "MIN", "MAX"))]
        return (name, self.key("z"), len(of), *of, *more)

    def store_range(self):
        return ("ZRANGESTORE", self.key("z"), self.key("z"), *self.r.choice((
            (0, -1), (0, 5), ("-inf", 50, "BYSCORE"), (9, 0, "REV"),
            (1, "+inf", "BYSCORE", "LIMIT", 1, 9))))

    def store_geo(self):
        g, to = self.key("g"), self.key(self.r.choice("gz"))
        return self.r.choice((
            ("GEOSEARCHSTORE", to, g, "FROMLONLAT", 10, 20, "BYRADIUS", 9000, "km"),
            ("GEOSEARCHSTORE", to, g, "FROMLONLAT", 0, 0,
             "BYBOX", 9000, 9000, "km", "STOREDIST"),
            ("GEORADIUS", g, 10, 20, 9000, "km", "STORE", to),
            ("GEORADIUS", g, 10, 20, 9000, "km", "COUNT", 3, "ASC", "STOREDIST", to),
            ("GEORADIUSBYMEMBER", g, self.member(), 9000, "km", "STORE", to)))

    def sort(self):
        return ("SORT", self.key(self.r.choice("sl")), "ALPHA", *self.r.choice((
            (), ("DESC",), ("LIMIT", 0, 5), ("BY", "nosort"))), "STORE", self.key("l"))

    def pfmerge(self):
        return ("PFMERGE", self.key("p"), *self.keys("p"))

    def bitop(self):
        name = self.r.choice(("AND", "OR", "XOR", "NOT"))
        return ("BITOP", name, self.key("b"), *self.keys("b", 1, 1 if name == "NOT" else 3))

    def copy(self):
        kind = self.typed()
        return ("COPY", self.key(kind), self.key(kind), *self.r.choice(((), ("REPLACE",))))

    def rename(self):
        kind = self.typed()
        return ("RENAME", self.key(kind), self.key(kind))

    def renamenx(self):
        kind = self.typed()
        return ("RENAMENX", self.key(kind), self.key(kind))

    def move_element(self):
        a, b, r = self.key("l"), self.key("l"), self.r
        return r.choice((("RPOPLPUSH", a, b), ("LMOVE", a, b, r.choice(("LEFT", "RIGHT")),
                                               r.choice(("left", "right")))))

    def block_move(self):
        a, b, r = self.key("l"), self.key("l"), self.r
        return r.choice((("BRPOPLPUSH", a, b, 0.01),
                         ("BLMOVE", a, b, r.choice(("LEFT", "RIGHT")),
                          r.choice(("LEFT", "RIGHT")), 0.01)))

    def smove(self):
        return ("SMOVE", self.key("s"), self.key("s"), self.member())

    def mset(self):
        return ("MSET", *[x for k in self.keys("k", 2, 4) for x in (k, self.mark())])

    def msetnx(self):
        return ("MSETNX", *[x for k in self.keys("k", 2, 3) for x in (k, self.mark())])

    def msetex(self):
        of = self.keys("k", 2, 4)
        return ("MSETEX", len(of), *[x for k in of for x in (k, self.mark())], *self.r.choice((
            ("EX", 9000), ("KEEPTTL",), ("PX", 9000000, "NX"), ("XX", "KEEPTTL"), ())))

    def delete(self):
        return ("DEL", *self.keys(self.typed(), 1, 3))

    def unlink(self):
        return ("UNLINK", *self.keys(self.typed(), 1, 3))

    # -- one key -------------------------------------------------------------------------------
    def strings(self):
        k, m = self.key("k"), self.mark()
        return self.r.choice((("SET", k, m), ("APPEND", k, m), ("INCR", k), ("SETRANGE", k, 3, m),
                              ("SET", k, m, "EX", 9000), ("SET", k, m, "KEEPTTL"), ("SETNX", k, m),
                              ("GETDEL", k), ("SET", k, m, "XX")))

    def lists(self):
        k, m = self.key("l"), self.mark()
        return self.r.choice((("RPUSH", k, m), ("LPUSH", k, m), ("RPUSH", k, m, m + "b"),
                              ("LPOP", k), ("RPOP", k), ("LTRIM", k, 0, 20), ("LSET", k, 0, m)))

    def sets(self):
        k, m = self.key("s"), self.member()
        return self.r.choice((("SADD", k, m), ("SADD", k, m, self.member()), ("SREM", k, m),
                              ("SPOP", k)))

    def sorted(self):
        k, m, n = self.key("z"), self.member(), self.r.randrange(100)
        return self.r.choice((("ZADD", k, n, m), ("ZINCRBY", k, n, m), ("ZREM", k, m),
                              ("ZADD", k, "GT", "CH", n, m), ("ZPOPMIN", k)))

    def hashes(self):
        k, m = self.key("h"), self.member()
        return self.r.choice((("HSET", k, m, self.mark()), ("HINCRBY", k, m, 3), ("HDEL", k, m),
                              ("HSETNX", k, m, self.mark())))

    def sketches(self):
        return self.r.choice((("PFADD", self.key("p"), self.member(), self.mark()),
                              ("PFCOUNT", self.key("p"))))

    def geo(self):
        return ("GEOADD", self.key("g"), self.r.randrange(-170, 170), self.r.randrange(-80, 80),
                self.member())

    def bits(self):
        return self.r.choice((("SETBIT", self.key("b"), self.r.randrange(400), 1),
                              ("BITFIELD", self.key("b"), "INCRBY", "u8", 8, 3)))

    def deadlines(self):
        k = self.key(self.typed())
        return self.r.choice((("EXPIRE", k, 9000), ("PERSIST", k), ("PEXPIRE", k, 8000000)))

    def library(self):
        return ("FUNCTION", "LOAD", "REPLACE", "#!lua name=cross\nredis.register_function("
                "'cross%d', function() return %d end)" % (self.r.randrange(9), self.n))


class CrossWriter(threading.Thread):
    """One connection, as fast as the server answers, but for a pause after each batch."""

    def __init__(self, server, load, batch=20, pause_s=0.01):
        super().__init__(daemon=True)
        self.server, self.load, self.batch, self.pause_s = server, load, batch, pause_s
        self.ending, self.resting, self.rests = (threading.Event() for _ in range(3))
        self.commands, self.errors, self.failure = 0, 0, None

    def run(self):
        try:
            with self.server.connect(timeout=30) as c:
                while not self.ending.wait(self.pause_s):
                    if self.resting.is_set():
                        self.rests.set()
                        continue
                    self.rests.clear()
                    self.write(c)
        except Exception as e:
            self.failure = e
        self.rests.set()

    def write(self, c):
        made = [x for _ in range(self.batch) for x in self.load.next()]
        replies = c.pipeline(made, raising=False)
        self.commands += len(made)
        self.errors += sum(isinstance(x, ReplyError) for x in replies)

    def rest(self):
        self.resting.set()
        assert self.rests.wait(60)
        assert not self.failure, self.failure

    def go_on(self):
        self.rests.clear()
        self.resting.clear()

    def stop(self):
        self.ending.set()
        self.join(60)
        assert not self.failure, self.failure
