# SPDX-License-Identifier: BSD-3-Clause
# An application that never stops writing: seeded random commands of every kind, several databases.
#
# As a program it writes until SIGTERM, then prints its counts as one line of JSON. As a module,
# Writer runs that program.
import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time

if __package__ in (None, ""):
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib.resp import Client, ReplyError, encode  # noqa: E402

KEYS = 300
TTL = 900  # seconds at least: nothing may run out while the two sides are compared


def k(rng, kind):
    return "w:%s:%d" % (kind, rng.randrange(KEYS))


def ttl_ms(rng):
    return TTL * 1000 + rng.randrange(10**8)


def strings(rng):
    s, n = k(rng, "str"), k(rng, "num")
    return rng.choice((
        lambda: [("SET", s, rng.randbytes(rng.randrange(200)))],
        lambda: [("SET", s, "v", "EX", TTL + rng.randrange(5000))],
        lambda: [("SET", s, "w", "PX", ttl_ms(rng))],
        lambda: [("SET", s, "kept", "KEEPTTL")],
        lambda: [("SETEX", s, TTL, "x")],
        lambda: [("GETEX", s, "PX", ttl_ms(rng))],
        lambda: [("GETSET", s, "gs")],
        lambda: [("INCR", n)], lambda: [("INCRBY", n, rng.randrange(-99, 99))],
        lambda: [("DECR", n)],
        lambda: [("INCRBYFLOAT", k(rng, "float"), "0.1")],
        lambda: [("APPEND", k(rng, "app"), rng.randbytes(rng.randrange(9)))],
        lambda: [("SETRANGE", k(rng, "app"), rng.randrange(500), "<>")],
        lambda: [("GETDEL", s)],
        lambda: [("MSET", s, 1, k(rng, "str"), 2)],
        lambda: [("MSETNX", s, 1, k(rng, "str"), 2)],
        lambda: [("SETBIT", k(rng, "bit"), rng.randrange(4000), rng.randrange(2))],
        lambda: [("BITOP", rng.choice(("AND", "OR", "XOR")), k(rng, "bit"), k(rng, "bit"),
                  k(rng, "bit"))],
        lambda: [("BITFIELD", k(rng, "bit"), "INCRBY", "u8", rng.randrange(64), 3)],
        lambda: [("PFADD", k(rng, "hll"), rng.randrange(10**6))],
        lambda: [("PFMERGE", k(rng, "hll"), k(rng, "hll"))],
        lambda: [("PFCOUNT", k(rng, "hll"))],
    ))()


def collections(rng):
    li, se, zs, ha = k(rng, "list"), k(rng, "set"), k(rng, "zset"), k(rng, "hash")
    m = "m%d" % rng.randrange(50)
    return rng.choice((
        lambda: [("LPUSH", li, m, rng.randbytes(5))], lambda: [("RPUSH", li, m)],
        lambda: [("RPOP", li)], lambda: [("LPOP", li, 2)],
        lambda: [("LMOVE", li, k(rng, "list"), "LEFT", "RIGHT")],
        lambda: [("RPOPLPUSH", li, k(rng, "list"))],
        lambda: [("LTRIM", li, 0, 30)], lambda: [("LINSERT", li, "BEFORE", m, "new")],
        lambda: [("LREM", li, 1, m)], lambda: [("LSET", li, 0, "first")],
        lambda: [("SADD", se, m, rng.randrange(1000))], lambda: [("SPOP", se)],
        lambda: [("SPOP", se, 3)], lambda: [("SREM", se, m)],
        lambda: [("SMOVE", se, k(rng, "set"), m)],
        lambda: [("SUNIONSTORE", k(rng, "set"), se, k(rng, "set"))],
        lambda: [("ZADD", zs, rng.choice(("1", "-2.5", "inf", "1e300", repr(rng.random()))), m)],
        lambda: [("ZADD", zs, "GT", "CH", rng.random(), m)],
        lambda: [("ZINCRBY", zs, "1.1", m)], lambda: [("ZPOPMIN", zs)],
        lambda: [("ZREMRANGEBYRANK", zs, 0, 0)],
        lambda: [("ZUNIONSTORE", k(rng, "zset"), 2, zs, k(rng, "zset"))],
        lambda: [("ZRANGESTORE", k(rng, "zset"), zs, 0, 5)],
        lambda: [("GEOADD", k(rng, "geo"), rng.uniform(-170, 170), rng.uniform(-80, 80), m)],
        lambda: [("HSET", ha, m, rng.randbytes(rng.randrange(90)), "n", 1)],
        lambda: [("HINCRBY", ha, "n", 7)], lambda: [("HINCRBYFLOAT", ha, "fl", "0.3")],
        lambda: [("HDEL", ha, m)], lambda: [("HSETNX", ha, m, "x")],
        lambda: [("SORT", li, "ALPHA", "STORE", k(rng, "sorted"))],
        lambda: [("LMPOP", 2, li, k(rng, "list"), "LEFT", "COUNT", 2)],
        lambda: [("ZMPOP", 1, zs, "MAX")],
    ))()


def stream_commands(rng):
    s = k(rng, "stream")
    return rng.choice((
        lambda: [("XADD", s, "*", "f", rng.randbytes(8), "g", 1)],
        lambda: [("XADD", s, "MAXLEN", "~", 50, "*", "f", 1)],
        lambda: [("XADD", s, "MAXLEN", 20, "*", "f", 1)],
        lambda: [("XADD", s, "*", "a", 1), ("XGROUP", "CREATE", s, "g", "0"),
                 ("XREADGROUP", "GROUP", "g", "c%d" % rng.randrange(3), "COUNT", 5, "STREAMS", s,
                  ">")],
        # with something to read: a consumer that is made for nothing is not replicated before 8.8
        lambda: [("XADD", s, "*", "b", 2),
                 ("XREADGROUP", "GROUP", "g", "c1", "COUNT", 2, "STREAMS", s, ">")],
        lambda: [("XAUTOCLAIM", s, "g", "c2", 0, "0", "COUNT", 3)],
        lambda: [("EVAL", "local e=redis.call('XRANGE',KEYS[1],'-','+','COUNT',1) if e[1] then "
                  "redis.call('XACK',KEYS[1],'g',e[1][1]) return redis.call('XDEL',KEYS[1],e[1][1])"
                  " end", 1, s)],
        lambda: [("XGROUP", "CREATECONSUMER", s, "g", "late")],
        lambda: [("XGROUP", "DELCONSUMER", s, "g", "c0")],
        lambda: [("XGROUP", "SETID", s, "g", "0")],
        lambda: [("XTRIM", s, "MINID", "1")],
    ))()


def keyspace(rng, dbs):
    kind = rng.choice(("str", "list", "set", "zset", "hash", "stream"))
    a, b, other = k(rng, kind), k(rng, kind), rng.choice(dbs)
    return rng.choice((
        lambda: [("EXPIRE", a, TTL + rng.randrange(9999))], lambda: [("PEXPIRE", a, ttl_ms(rng))],
        lambda: [("EXPIREAT", a, int(time.time()) + TTL + rng.randrange(9999))],
        lambda: [("PERSIST", a)],
        lambda: [("SET", "w:short:%d" % rng.randrange(20), 1, "PX", rng.randrange(1, 400))],
        lambda: [("RENAME", a, b)], lambda: [("RENAMENX", a, b)],
        lambda: [("COPY", a, b, "REPLACE")], lambda: [("COPY", a, b, "DB", other, "REPLACE")],
        lambda: [("MOVE", a, other)], lambda: [("DEL", a, b)], lambda: [("UNLINK", a)],
        lambda: [("EXPIRE", a, -1)],
    ))()


def scripts(rng, dbs):
    a, b = k(rng, "num"), k(rng, "list")
    return rng.choice((
        lambda: [("EVAL", "redis.call('incr',KEYS[1]) return redis.call('rpush',KEYS[2],ARGV[1])",
                  2, a, b, "from script")],
        lambda: [("EVAL", "redis.call('SELECT',ARGV[1]) return redis.call('incr',KEYS[1])", 1, a,
                  rng.choice(dbs))],
        lambda: [("EVAL", "for i=1,20 do redis.call('sadd',KEYS[1],i) end", 1, k(rng, "set"))],
        lambda: [("MULTI",), ("INCR", a), ("RPUSH", b, "tx"), ("HSET", k(rng, "hash"), "t", "x"),
                 ("EXEC",)],
        lambda: [("MULTI",), ("INCR", a), ("SELECT", rng.choice(dbs)), ("INCR", a),
                 ("SET", k(rng, "str"), "tx", "EX", TTL), ("EXEC",)],
        lambda: [("MULTI",), ("INCR", a), ("DISCARD",)],
        lambda: [("PUBLISH", "w:channel", "message")],
    ))()


def newer_keys(rng):
    """What came with 6.2 and later; a server that does not know it answers an error."""
    s, t, li, zs = k(rng, "str"), k(rng, "str"), k(rng, "list"), k(rng, "zset")
    m, at = "m%d" % rng.randrange(50), int(time.time() * 1000) + ttl_ms(rng)
    return rng.choice((
        lambda: [("SET", s, "v", "PXAT", at)], lambda: [("SET", s, "v", "EXAT", at // 1000, "GET")],
        lambda: [("PEXPIREAT", s, at, rng.choice(("NX", "XX", "GT", "LT")))],
        lambda: [("EXPIREAT", li, at // 1000, "NX")],
        lambda: [("SET", s, "same"), ("SET", s, "other", "IFEQ", "same", "PXAT", at)],
        lambda: [("SET", s, "changed", "IFEQ", "gs")], lambda: [("SET", s, "x", "IFNE", "y")],
        lambda: [("MSETEX", 2, s, 1, t, 2, "PXAT", at)], lambda: [("MSETEX", 1, s, 3, "KEEPTTL")],
        lambda: [("DELEX", s, "IFEQ", "v")], lambda: [("DELIFEQ", s, "v")],
        lambda: [("LMOVE", li, k(rng, "list"), "LEFT", "LEFT")], lambda: [("RPOP", li, 3)],
        lambda: [("LMOVE", li, li, "LEFT", "RIGHT")],
        lambda: [("ZADD", zs, "GT", rng.random(), m, rng.random(), "m1", 2, "m2")],
        lambda: [("ZADD", zs, "LT", "CH", 0.5, m)],
        lambda: [("ZADD", zs, "XX", "GT", "INCR", 1, m)],
        lambda: [("ZDIFFSTORE", k(rng, "zset"), 2, zs, k(rng, "zset"))],
        lambda: [("ZRANGESTORE", k(rng, "zset"), zs, "(0", "inf", "BYSCORE", "LIMIT", 1, 9)],
        lambda: [("ZRANGESTORE", k(rng, "zset"), zs, 0, 3, "REV")],
        lambda: [("GEOSEARCHSTORE", k(rng, "near"), k(rng, "geo"), "FROMLONLAT", 0, 0, "BYRADIUS",
                  9000, "km")],
        lambda: [("SPUBLISH", "w:shard", "message")],
        lambda: [("FCALL", "kh_set", 1, s, "from a function")],
    ))()


def newer_fields(rng):
    """Expiries of hash fields (Redis 7.4, Valkey 9)."""
    ha, at = k(rng, "hfe"), int(time.time() * 1000) + ttl_ms(rng)
    f, g = "f%d" % rng.randrange(9), "f%d" % rng.randrange(9)
    return rng.choice((
        lambda: [("HSET", ha, f, 1, g, rng.randbytes(30))], lambda: [("HDEL", ha, f)],
        lambda: [("HEXPIRE", ha, TTL + rng.randrange(9999), "FIELDS", 2, f, g)],
        lambda: [("HPEXPIREAT", ha, at, rng.choice(("NX", "GT")), "FIELDS", 1, f)],
        lambda: [("HPERSIST", ha, "FIELDS", 1, f)], lambda: [("HINCRBYFLOAT", ha, "n", "0.3")],
        lambda: [("HSETEX", ha, "PXAT", at, "FIELDS", 2, f, "v", g, "w")],
        lambda: [("HSETEX", ha, "FNX", "EX", TTL, "FIELDS", 1, f, "v")],
        lambda: [("HSETEX", ha, "KEEPTTL", "FIELDS", 1, f, "kept")],
        lambda: [("HGETEX", ha, "PX", ttl_ms(rng), "FIELDS", 1, f)],
        lambda: [("HGETEX", ha, "PERSIST", "FIELDS", 1, f)],
        lambda: [("HGETDEL", ha, "FIELDS", 1, f)],
        lambda: [("HSET", "w:hshort:%d" % rng.randrange(9), f, 1, "stays", 1),
                 ("HPEXPIRE", "w:hshort:%d" % rng.randrange(9), rng.randrange(1, 400), "FIELDS", 1,
                  f)],
    ))()


def newer_streams(rng):
    s, vs = k(rng, "stream"), k(rng, "vec")
    e = "e%d" % rng.randrange(10**9)  # always a new one: Redis 8 does not replicate an update
    some = "local e=redis.call('XRANGE',KEYS[1],'-','+','COUNT',3) for i=1,#e do " \
           "redis.call(%s,e[i][1]) end"
    return rng.choice((
        lambda: [("XADD", s, "NOMKSTREAM", "*", "f", 1)],
        lambda: [("XADD", s, "MINID", "~", "1-1", "LIMIT", 50, "*", "f", 1)],
        lambda: [("XADD", s, "MAXLEN", "~", 30, "LIMIT", 100, "*", "f", 1)],
        lambda: [("XADD", s, "IDMP", "p", "i%d" % rng.randrange(99), "*", "f", 1)],
        lambda: [("XGROUP", "CREATE", s, "h", "$", "ENTRIESREAD", 3)],
        lambda: [("EVAL", some % "'XDELEX',KEYS[1],'KEEPREF','IDS',1", 1, s)],
        lambda: [("EVAL", some % "'XDELEX',KEYS[1],'ACKED','IDS',1", 1, s)],
        lambda: [("EVAL", some % "'XACKDEL',KEYS[1],'g','DELREF','IDS',1", 1, s)],
        lambda: [("VADD", vs, "VALUES", 3, rng.random(), 0.5, -1.25, e, "NOQUANT")],
        lambda: [("VADD", "w:vecq", "VALUES", 2, 1, rng.random(), e),
                 ("VSETATTR", "w:vecq", e, '{"a":1}')],
        lambda: [("VADD", vs, "VALUES", 3, 1, 2, 3, e, "NOQUANT"), ("VREM", vs, e)],
    ))()


def newer(rng):
    return rng.choice((newer_keys, newer_keys, newer_fields, newer_streams))(rng)


def next_commands(rng, dbs):
    r = rng.random()
    if r < 0.35:
        return strings(rng)
    if r < 0.70:
        return collections(rng)
    if r < 0.82:
        return stream_commands(rng)
    if r < 0.93:
        return keyspace(rng, dbs)
    if r < 0.985:
        return scripts(rng, dbs)
    return [("SELECT", rng.choice(dbs))]


def rare(rng, dbs, opts):
    """Now and then: whole-database commands, on the databases given for them."""
    if len(opts.swap) == 2 and rng.random() < 0.004:
        return [("SWAPDB", opts.swap[0], opts.swap[1])]
    if opts.flush and rng.random() < 0.002:
        db = rng.choice(opts.flush)
        return [("SELECT", db), ("FLUSHDB",), ("SELECT", rng.choice(dbs))]
    return []


def write_until_stopped(opts):
    rng = random.Random(opts.seed)
    stopped = []
    signal.signal(signal.SIGTERM, lambda *a: stopped.append(1))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    address = opts.socket or ("127.0.0.1", opts.port)
    c = Client(address, db=opts.dbs[0], password=os.environ.get("WRITER_PASSWORD"))
    counts = {"commands": 0, "errors": 0, "batches": 0}
    start = time.monotonic()
    print("writing", flush=True)
    while not stopped and (not opts.count or counts["commands"] < opts.count):
        batch = rare(rng, opts.dbs, opts)
        while len(batch) < opts.batch:
            batch += newer(rng) if rng.random() < opts.newer else next_commands(rng, opts.dbs)
        c.send(b"".join(map(encode, batch)))
        for _ in batch:
            if isinstance(c.read(), ReplyError):
                counts["errors"] += 1  # wrong type, no such key, no such group: expected
        counts["commands"] += len(batch)
        counts["batches"] += 1
        ahead = counts["commands"] / opts.rate - (time.monotonic() - start) if opts.rate else 0
        if ahead > 0:
            time.sleep(ahead)
    counts["seconds"] = round(time.monotonic() - start, 3)
    print(json.dumps(counts), flush=True)


class Writer:
    """Runs this file as a process; stop() returns its counts."""

    def __init__(self, server, seed=7, dbs=range(16), rate=3000, swap=(12, 13), flush=(14,),
                 batch=40, count=0, newer=0.0):
        if not {*swap} <= {*dbs}:
            swap = ()
        args = [sys.executable, os.path.abspath(__file__), "--seed", str(seed), "--dbs",
                ",".join(map(str, dbs)), "--rate", str(rate), "--batch", str(batch),
                "--swap", ",".join(map(str, swap)), "--count", str(count),
                "--newer", str(newer),
                "--flush", ",".join(str(d) for d in flush if d in dbs)]
        args += ["--socket", server.path] if server.unix else ["--port", str(server.port)]
        env = dict(os.environ)
        if server.password:
            env["WRITER_PASSWORD"] = server.password
        from .server import die_with_parent
        self.proc = subprocess.Popen(args, stdout=subprocess.PIPE, text=True, env=env,
                                     preexec_fn=die_with_parent)
        if self.proc.stdout.readline().strip() != "writing":
            raise RuntimeError("the writer does not start")

    def stop(self):
        if self.proc.poll() is None:
            self.proc.terminate()
        return self.wait()

    def wait(self):
        out = self.proc.stdout.read()
        self.proc.wait()
        if self.proc.returncode:
            raise RuntimeError("the writer failed: %d" % self.proc.returncode)
        return json.loads(out)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        self.proc.stdout.close()


def main():
    numbers = lambda s: [int(x) for x in s.split(",") if x]
    p = argparse.ArgumentParser()
    p.add_argument("--port", type=int)
    p.add_argument("--socket")
    p.add_argument("--seed", type=int, default=7)
    p.add_argument("--rate", type=int, default=0, help="commands a second, 0: as fast as it goes")
    p.add_argument("--batch", type=int, default=40)
    p.add_argument("--count", type=int, default=0, help="stop after so many, 0: never")
    p.add_argument("--newer", type=float, default=0.0, help="share of commands of later versions")
    p.add_argument("--dbs", type=numbers, default=list(range(16)))
    p.add_argument("--swap", type=numbers, default=[])
    p.add_argument("--flush", type=numbers, default=[])
    write_until_stopped(p.parse_args())


if __name__ == "__main__":
    main()
