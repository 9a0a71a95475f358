# SPDX-License-Identifier: BSD-3-Clause
# An application whose every write counts: what is lost or doubled stays visible for ever.
#
# Seeded, many connections. It follows its server through crashes and failovers: addresses are tried
# in turn until one says that it is a primary. As a program it writes until SIGTERM, then prints its
# counts as one line of JSON. As a module, ChaosWriter runs that program.
import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

if __package__ in (None, ""):
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib.resp import Client, ReplyError, encode  # noqa: E402

DBS = (0, 1, 5)      # 5 is swapped with 6, and flushed, by the faults
ACCOUNT_DBS = (0, 1)  # all accounts together always hold 0
ACCOUNTS = 100
BIG = 1 << 20

LIBRARY = """#!lua name=chaos
redis.register_function('move', function(keys, args)
  redis.call('INCRBY', keys[1], -args[1])
  return redis.call('INCRBY', keys[2], args[1])
end)
redis.register_function('tick', function(keys, args)
  redis.call('RPUSH', keys[2], redis.call('INCR', keys[1]))
  return %d
end)
"""

TRANSFER = "redis.call('INCRBY',KEYS[1],-ARGV[1]) return redis.call('INCRBY',KEYS[2],ARGV[1])"
# a script whose effects hang on what it reads: only its effects may be replicated
GAMBLE = """local n = tonumber(redis.call('GET', KEYS[1]) or '0')
for i = 1, n % 7 do redis.call('RPUSH', KEYS[2], n .. ':' .. i) end
redis.call('HINCRBY', KEYS[3], 'n' .. n % 10, 1)
if n % 3 == 0 then redis.call('PEXPIRE', KEYS[3], 600000 + n) end
return redis.call('INCR', KEYS[1])"""

# All accounts of all their databases in one reading, and beside it a key of the caller's choice.
SUM = """local s = 0
for _, db in ipairs({%s}) do
  redis.call('SELECT', db)
  for i = 0, %d do s = s + (redis.call('GET', 'acct:' .. i) or 0) end
end
redis.call('SELECT', 0)
return {s, redis.call('GET', KEYS[1]) or ''}""" % (",".join(map(str, ACCOUNT_DBS)), ACCOUNTS - 1)


class Again(Exception):
    """The server cannot take writes now: call again."""


PASSING = ("READONLY", "LOADING", "MISCONF", "OOM", "NOREPLICAS", "MASTERDOWN", "UNBLOCKED", "BUSY",
           "EXECABORT")


class Load:
    """Commands of one connection. Keys are shared between connections; values tell who wrote."""

    def __init__(self, rng, number, expiry):
        self.rng, self.number, self.n = rng, number, 0
        kinds = [(self.counters, 30), (self.lists, 20), (self.others, 14), (self.streams, 10),
                 (self.transfers, 12), (self.scripts, 6), (self.keyspace, 4), (self.lasting, 5)]
        if expiry == "short":
            kinds.append((self.sessions, 12))
        self.kinds, self.weights = zip(*kinds)

    def next(self):
        if self.rng.random() < 0.0004:
            return self.rng.choice((self.big, self.large_group))()
        return self.rng.choices(self.kinds, self.weights)[0]()

    def key(self, kind, n):
        return "c:%s:%d" % (kind, self.rng.randrange(n))

    def mark(self):
        self.n += 1
        return "%d/%d" % (self.number, self.n)

    def counters(self):
        r = self.rng
        return r.choice((
            lambda: [("INCR", self.key("n", 100))], lambda: [("INCR", "c:all")],
            lambda: [("DECRBY", self.key("n", 100), r.randrange(50))],
            lambda: [("INCRBYFLOAT", self.key("f", 30), "%.2f" % r.uniform(-5, 9))],
            lambda: [("APPEND", self.key("app", 40), self.mark() + ",")],
            lambda: [("SETRANGE", self.key("app", 40), r.randrange(300), self.mark())],
            lambda: [("BITFIELD", self.key("bit", 9), "INCRBY", "u16", r.randrange(64) * 16, 3)],
            lambda: [("PFADD", self.key("hll", 5), self.mark())],
        ))()

    def lists(self):
        a, b, m = self.key("l", 30), self.key("l", 30), self.mark()
        return self.rng.choice((
            lambda: [("LPUSH", a, m)], lambda: [("RPUSH", a, m, m + "b")],
            lambda: [("RPUSH", "c:log", m)], lambda: [("RPOPLPUSH", a, b)],
            lambda: [("LMOVE", a, b, "LEFT", "LEFT")], lambda: [("LPOP", a)],
            lambda: [("LINSERT", a, "BEFORE", m, "x")], lambda: [("LTRIM", a, -400, -1)],
            lambda: [("BLMOVE", a, b, "RIGHT", "LEFT", "0.01")], lambda: [("BLPOP", a, "0.01")],
            lambda: [("BRPOPLPUSH", a, b, "0.01")],
        ))()

    def others(self):
        r = self.rng
        z, h, s = self.key("z", 15), self.key("h", 20), self.key("s", 10)
        m = "m%d" % r.randrange(60)
        return r.choice((
            lambda: [("ZINCRBY", z, "%.1f" % r.uniform(-2, 5), m)],
            lambda: [("ZADD", z, "INCR", 1, m)], lambda: [("ZPOPMIN", z)],
            lambda: [("HINCRBY", h, m, r.randrange(-3, 9))],
            lambda: [("HINCRBYFLOAT", h, "fl", "0.3")], lambda: [("HSET", h, m, self.n)],
            lambda: [("SADD", s, *(self.mark() for _ in range(3)))], lambda: [("SPOP", s)],
            lambda: [("SPOP", s, 2)], lambda: [("SMOVE", s, self.key("s", 10), m)],
            lambda: [("SADD", s, m)],
        ))()

    def streams(self):
        x, who = self.key("x", 8), "c%d" % self.rng.randrange(4)
        ack = "local p=redis.call('XPENDING',KEYS[1],'g','-','+',2) for i=1,#p do " \
              "redis.call('XACK',KEYS[1],'g',p[i][1]) end return #p"
        return self.rng.choice((
            lambda: [("XADD", x, "*", "m", self.mark())], lambda: [("XADD", x, "*", "m", self.n)],
            lambda: [("XADD", x, "MAXLEN", "~", 800, "*", "m", self.mark())],
            lambda: [("XADD", x, "*", "n", 1), ("XGROUP", "CREATE", x, "g", "0")],
            lambda: [("XADD", x, "*", "n", 2),
                     ("XREADGROUP", "GROUP", "g", who, "COUNT", 3, "STREAMS", x, ">")],
            lambda: [("EVAL", ack, 1, x)],
            lambda: [("XAUTOCLAIM", x, "g", who, 0, "0", "COUNT", 2)],
        ))()

    def account(self):
        return "acct:%d" % self.rng.randrange(ACCOUNTS)

    def transfers(self):
        a, b, n = self.account(), self.account(), self.rng.randrange(1, 1000)
        here, there = self.rng.sample(ACCOUNT_DBS, 2)
        return self.rng.choice((
            lambda: [("SELECT", here), ("MULTI",), ("INCRBY", a, -n), ("RPUSH", "c:log", self.mark()),
                     ("INCRBY", b, n), ("EXEC",)],
            lambda: [("SELECT", here), ("MULTI",), ("DECRBY", a, n), ("SELECT", there),
                     ("INCRBY", b, n), ("EXEC",)],
            lambda: [("SELECT", here), ("EVAL", TRANSFER, 2, a, b, n)],
            lambda: [("SELECT", here), ("FCALL", "move", 2, a, b, n)],
        ))()

    def scripts(self):
        return self.rng.choice((
            lambda: [("EVAL", GAMBLE, 3, self.key("n", 100), self.key("l", 30), self.key("h", 20))],
            lambda: [("FCALL", "tick", 2, self.key("n", 100), self.key("l", 30))],
            lambda: [("FUNCTION", "LOAD", "REPLACE", LIBRARY % self.n)]
            if self.rng.random() < 0.02 else [("FCALL", "tick", 2, "c:all", "c:log")],
        ))()

    def keyspace(self):
        kind, n = self.rng.choice((("n", 100), ("l", 30), ("z", 15), ("h", 20), ("s", 10), ("x", 8)))
        a, b = self.key(kind, n), self.key(kind, n)
        return self.rng.choice((
            lambda: [("DEL", a), ("SET", self.key("re", 30), self.mark())],
            lambda: [("UNLINK", a, self.key("re", 30))], lambda: [("RENAME", a, b)],
            lambda: [("COPY", a, b, "REPLACE")],
            lambda: [("MOVE", a, self.rng.choice(DBS))],
            lambda: [("GETDEL", self.key("app", 40))],
        ))()

    def lasting(self):
        """Deadlines that nothing but their own exactness can lose."""
        t, ms = self.key("t", 200), 900_000 + self.rng.randrange(10**8)
        return self.rng.choice((
            lambda: [("INCR", t), ("PEXPIRE", t, ms)], lambda: [("SET", t, self.n, "PX", ms)],
            lambda: [("EXPIRE", t, ms // 1000, "GT")], lambda: [("PERSIST", t)],
            lambda: [("SET", t, self.n, "KEEPTTL")], lambda: [("GETEX", t, "PX", ms)],
            lambda: [("SETEX", t, ms // 1000, self.n)], lambda: [("PEXPIRE", self.key("l", 30), ms)],
        ))()

    def sessions(self):
        """Keys that die soon unless they are renewed, and mostly are: a copy that lets one die
        too early goes on with another count."""
        s, ms = self.key("sess", 150), self.rng.randrange(150, 3000)
        return self.rng.choice((
            lambda: [("INCR", s), ("PEXPIRE", s, ms)],
            lambda: [("MULTI",), ("APPEND", s, self.rng.randrange(10)), ("PEXPIRE", s, ms),
                     ("EXEC",)],
            lambda: [("RPUSH", self.key("queue", 40), self.mark()),
                     ("PEXPIRE", self.key("queue", 40), ms)],
            lambda: [("SET", s, self.rng.randrange(100), "PX", ms)],
            lambda: [("PERSIST", s)], lambda: [("PEXPIRE", s, -1)],
            lambda: [("GETEX", s, "EX", 1)],
        ))()

    def big(self):
        b = self.key("big", 4)
        size = self.rng.randrange(BIG, 5 * BIG)
        return self.rng.choice((
            lambda: [("SET", b, self.rng.randbytes(size))],
            lambda: [("SET", b, b""), ("APPEND", b, self.rng.randbytes(size))],
            lambda: [("DEL", "c:bigh"), ("HSET", "c:bigh", *(
                x for i in range(3000) for x in ("f%d" % i, self.rng.randbytes(300))))],
            lambda: [("SETRANGE", b, size, self.mark())],
        ))()

    def large_group(self):
        out = [("SELECT", ACCOUNT_DBS[0]), ("MULTI",)]
        for _ in range(self.rng.randrange(500, 3000)):
            n = self.rng.randrange(1000)
            out += [("INCRBY", self.account(), -n), ("INCRBY", self.account(), n)]
        return out + [("EXEC",)]


class Worker(threading.Thread):
    """One connection, and the next one when that is lost."""

    def __init__(self, number, opts, stop):
        super().__init__(daemon=True)
        rng = random.Random("%d/%d" % (opts.seed, number))
        self.load = Load(rng, number, opts.expiry)
        self.rng, self.addresses, self.over = rng, list(opts.ports), stop
        self.rate = opts.rate / opts.connections
        self.number = number
        self.counts = {"commands": 0, "errors": 0, "lost": 0}
        self.due = time.monotonic()

    def run(self):
        while not self.over.is_set():
            try:
                with self.connect() as c:
                    while not self.over.is_set():
                        self.batch(c)
            except (OSError, ValueError, Again):
                self.counts["lost"] += 1
                self.addresses.append(self.addresses.pop(0))
                self.over.wait(0.05)

    def connect(self):
        c = Client(("127.0.0.1", self.addresses[0]), timeout=3)
        try:
            if c.call("ROLE")[0] != b"master":
                raise Again("not a primary")
            if self.number == 0:
                self.load_library(c)
        except ReplyError as e:
            c.close()
            raise Again(str(e))
        except BaseException:
            c.close()
            raise
        return c

    @staticmethod
    def load_library(c):
        """Where functions are known (7.0)."""
        try:
            c.call("FUNCTION", "LOAD", "REPLACE", LIBRARY % 0)
        except ReplyError as e:
            if "unknown command" not in str(e):
                raise

    def batch(self, c):
        commands = [("SELECT", self.rng.choice(DBS))]
        while len(commands) < 25:
            commands += self.load.next()
        c.send(b"".join(map(encode, commands)))
        for _ in commands:
            r = c.read()
            if isinstance(r, ReplyError):
                if str(r).split(" ", 1)[0] in PASSING:
                    raise Again(str(r))
                # wrong type, no such key or group, a command of later servers: expected
                self.counts["errors"] += 1
        self.counts["commands"] += len(commands)
        now = time.monotonic()
        self.due = max(self.due, now - 0.5) + len(commands) / self.rate
        if self.due > now:
            self.over.wait(self.due - now)


def write_until_stopped(opts):
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *a: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    workers = [Worker(i, opts, stop) for i in range(opts.connections)]
    for w in workers:
        w.start()
    print("writing", flush=True)
    while not stop.wait(0.1):
        pass
    total = {}
    for w in workers:
        w.join()
        for k, n in w.counts.items():
            total[k] = total.get(k, 0) + n
    print(json.dumps(total), flush=True)


class ChaosWriter:
    """Runs this file as a process; stop() returns its counts. expiry: short, or long only."""

    def __init__(self, ports, seed=1, connections=6, rate=3000, expiry="short"):
        args = [sys.executable, os.path.abspath(__file__), "--seed", str(seed), "--connections",
                str(connections), "--rate", str(rate), "--expiry", expiry,
                "--ports", ",".join(map(str, ports))]
        from .server import die_with_parent
        self.proc = subprocess.Popen(args, stdout=subprocess.PIPE, text=True,
                                     preexec_fn=die_with_parent)
        if self.proc.stdout.readline().strip() != "writing":
            raise RuntimeError("the writer does not start")

    def stop(self):
        """Only to be called while its server answers."""
        self.proc.terminate()
        out = self.proc.stdout.read()
        self.proc.wait()
        if self.proc.returncode:
            raise RuntimeError("the writer failed: %d" % self.proc.returncode)
        return json.loads(out)

    def close(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        self.proc.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--ports", type=lambda s: [int(x) for x in s.split(",")], required=True)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--connections", type=int, default=6)
    p.add_argument("--rate", type=int, default=3000, help="commands a second, all together")
    p.add_argument("--expiry", choices=("short", "long"), default="short")
    write_until_stopped(p.parse_args())


if __name__ == "__main__":
    main()
