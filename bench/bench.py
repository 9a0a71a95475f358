#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""keyhaul beside the servers' own REPLICAOF: same servers, same data, one run. `make bench`.

Snapshot rows: wall seconds from the start of the process (or of REPLICAOF) until the target holds
everything and keyhaul has ended (or the replica's offset is the source's). CPU is user+system, in
us per key: of keyhaul itself, of source and target while it ran, and of source and target under
REPLICAOF (a replica has no third process: compare the sums). Both use a diskless source without
delay; the replica loads as --native-load says (the server's default writes the snapshot to disk
first). Stream rows: CPU per command, the sustained rate, and the lag of a probe at 5,000 writes/s.
Resume row: what checkpoints and the spool's log cost, --resume yes beside --resume no in turn, at
least five times, after some 130 MB of the stream; the ratio is the median of the pairs'.
Inspect row: RDBs of 100 to 240 MB that lie in the page cache, by keyhaul alone, on one core: passed
over for the report, and each value decoded, sorted and hashed for the lines. With --before also by
another build, run by run in turn.
Cluster rows: a cluster of three shards to another of three (no replicas), beside the same data from
one server to one, in turn, at least three times; the ratios are the medians of the pairs'. No
native replication goes from cluster to cluster. Of a snapshot half as many keys as in the row of
that name. The stream by three writers, one to each shard: SET of 100 B (sent as it is), at the writers'
own pace, which mostly leaves keyhaul waiting for them; and what they have written while keyhaul was
stopped, of SET and of INCR (each slot's share of a batch is a transaction with a mark of its own).
"""
import argparse
import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))

from lib.cluster import Cluster, even_split  # noqa: E402
from lib.dataset import count_keys  # noqa: E402
from lib.mover import Keyhaul, Native, keyhaul_binary  # noqa: E402
from lib.resp import encode, wait_for  # noqa: E402
from lib.route import slot_of, tag_of  # noqa: E402
from lib.server import Server, peak_rss_mb  # noqa: E402

# -- data: made inside the server, from a block of random bytes, so that nothing compresses ---------
BLOCK = 1 << 16
LUA_STRINGS = """local b=ARGV[4] local n=tonumber(ARGV[3]) local x=tonumber(ARGV[1])*7919
for i=ARGV[1],ARGV[2] do x=(x*16807)%2147483647 local o=x%(#b-n)+1
redis.call('SET','key:'..i,string.sub(b,o,o+n-1)) end"""
LUA_HASHES = """local b=ARGV[4] local n=tonumber(ARGV[3]) local x=tonumber(ARGV[1])*7919
for i=ARGV[1],ARGV[2] do local a={} for f=1,n do x=(x*16807)%2147483647 local o=x%(#b-20)+1
a[2*f-1]='field:'..f a[2*f]=string.sub(b,o,o+19) end redis.call('HSET','hash:'..i,unpack(a)) end"""
LUA_WIDE = """local b=ARGV[4] local n=tonumber(ARGV[3]) local x=tonumber(ARGV[1])*7919
for i=ARGV[1],ARGV[2] do for f=1,n,500 do local a={} for j=0,499 do x=(x*16807)%2147483647
local o=x%(#b-20)+1 a[2*j+1]='field:'..(f+j) a[2*j+2]=string.sub(b,o,o+19) end
redis.call('HSET','wide:'..i,unpack(a)) end end"""
LUA_MIXED = """local b=ARGV[4] local x=tonumber(ARGV[1])*7919
for i=ARGV[1],ARGV[2] do x=(x*16807)%2147483647 local o=x%(#b-64)+1 local v=string.sub(b,o,o+31)
local k='mixed:'..i local t=i%6
if t<2 then redis.call('SET',k,v) elseif t==2 then redis.call('RPUSH',k,v,i,'c','d','e')
elseif t==3 then redis.call('SADD',k,i,i+1,i+2,i*3) elseif t==4 then
redis.call('ZADD',k,x/7,'a',i,'b',1.5,v) else redis.call('HSET',k,'name',v,'n',i) end
if i%2==0 then redis.call('PEXPIRE',k,3600000+x%1000000) end end"""

LUA_JSON = """for i=ARGV[1],ARGV[2] do local t={} for j=1,8 do t[j]='{"id":'..(i*j)..',"name":"user'..i..
'","email":"user'..i..'@example.com","score":'..(i%97*j)..'}' end if i%2==0 then
redis.call('SET','json:'..i,table.concat(t,',')) else redis.call('RPUSH','l:'..i,unpack(t)) end end"""


def scripted(script, size=0, slice_=20_000):
    def fill(client, count, clustered=False):
        """clustered: just the keys that are in the server's own slots; it refuses the others"""
        block = random.Random(1).randbytes(BLOCK)
        text = script.replace("redis.call", "redis.pcall") if clustered else script
        for first in range(1, count + 1, slice_):
            client.call("EVAL", text, 0, first, min(first + slice_ - 1, count), size, block)
    return fill


def big_values(client, count):
    value = random.Random(2).randbytes(5_000_000)
    for i in range(count):
        client.call("SET", "big:%d" % i, value)


ROWS = {  # name: (keys at scale 1, words, fill)
    "strings": (3_000_000, "strings of 100 B", scripted(LUA_STRINGS, 100)),
    "hashes": (300_000, "hashes of 20 fields", scripted(LUA_HASHES, 20, 5000)),
    "mixed": (1_000_000, "mixed types, half with TTL", scripted(LUA_MIXED)),
    "big": (200, "strings of 5 MB", big_values),
    "wide": (4, "hashes of 1 M fields", scripted(LUA_WIDE, 1_000_000, 1)),
}
STREAMS = {  # name: (words, writers, pipeline)
    "stream": ("SET of 100 B, 3 pipelining writers", 3, 1000),
    "pipelines": ("SET of 100 B, 10 writers, 50 at once", 10, 50),
}
STREAM_ROWS = (*STREAMS, "lag", "resume")
SHARDS = 3
CLUSTER_ROWS = {  # name: (row of ROWS) or (command, words, commands at scale 1, as a backlog)
    "cluster-strings": ("strings",),
    "cluster-hashes": ("hashes",),
    "cluster-stream": ("SET", "SET of 100 B", 2_000_000, False),
    "cluster-backlog": ("SET", "SET of 100 B, behind", 2_000_000, True),
    "cluster-count": ("INCR", "INCR, behind", 2_000_000, True),
}
INSPECT = (  # words, compressed, ((fill, keys at scale 1), ...)
    ("mixed, and strings of 1 KB", False, ((scripted(LUA_MIXED), 2_000_000),
                                           (scripted(LUA_STRINGS, 1000), 110_000))),
    ("mixed types, 62 B each", False, ((scripted(LUA_MIXED), 2_000_000),)),
    ("strings of 100 B", False, ((scripted(LUA_STRINGS, 100), 1_000_000),)),
    ("hashes of 20 fields", False, ((scripted(LUA_HASHES, 20, 5000), 200_000),)),
    ("compressed JSON of 700 B", True, ((scripted(LUA_JSON), 400_000),)),
)


class Bench:
    def __init__(self, opts):
        self.opts = opts
        self.results = []
        self.folder = tempfile.mkdtemp(prefix="kh-bench-")

    def new_server(self, name):
        config = {"client-output-buffer-limit": "replica 0 0 0", "repl-timeout": "600",
                  "repl-diskless-load": self.opts.native_load, "io-threads": "1"}
        s = Server(self.opts.server, config, name=name)
        return s.start()

    def mover(self, name, source, target, *options):
        if name == "native":
            return Native(source, target)
        return Keyhaul(source, target, "--quiet", *options, metrics=False,
                       folder=tempfile.mkdtemp(dir=self.folder))

    # -- snapshot ------------------------------------------------------------------------------
    def snapshot_row(self, row):
        keys, words, fill = ROWS[row]
        keys = max(1, int(keys * self.opts.scale))
        note("filling %d %s" % (keys, words))
        with self.new_server("source") as source:
            with source.connect(timeout=600) as c:
                fill(c, keys)
            keys = count_keys(source)
            runs = {"native": [], "keyhaul": []}
            for i in range(self.opts.runs):
                for who in runs:
                    note("run %d of %d: %s" % (i + 1, self.opts.runs, who))
                    runs[who].append(self.snapshot_run(who, source, keys))
            self.results.append({"row": row, "what": words, "keys": keys,
                                 **{w: medians(r) for w, r in runs.items()}})

    def snapshot_run(self, who, source, keys):
        with self.new_server("target") as target:
            before = source.cpu_s(), target.cpu_s()
            start = time.monotonic()
            m = self.mover(who, source, target, "--until", "caught-up")
            out = {}
            try:
                if who == "native":
                    wait_for(m.synced, 900, 0.005)
                    out["wall_s"] = time.monotonic() - start
                    out["mover_us"], out["rss_mb"] = 0.0, target.peak_rss_mb()
                else:
                    if m.wait(900):
                        raise SystemExit("bench: keyhaul failed:\n" + m.said[-3000:])
                    out["wall_s"] = time.monotonic() - start
                    out["mover_us"] = m.cpu_s() * 1e6 / keys
                    out["rss_mb"] = m.peak_rss_mb()
            finally:
                m.close()
            wait_reaped(source)
            out["source_us"] = (source.cpu_s() - before[0]) * 1e6 / keys
            out["target_us"] = (target.cpu_s() - before[1]) * 1e6 / keys
            if count_keys(target) != keys:
                raise SystemExit("bench: %s lost keys: %d of %d" % (who, count_keys(target), keys))
            return out

    # -- stream --------------------------------------------------------------------------------
    def attached(self, who):
        """Two fresh servers and a mover between them that has caught up."""
        source, target = self.new_server("source"), self.new_server("target")
        m = self.mover(who, source, target, *(("--resume", "no") if who == "off" else ()))
        with source.connect() as c:
            c.call("SET", "ready", 1)
        wait_for(lambda: target.call("GET", "ready") == b"1", 60)
        if who == "native":
            wait_for(m.synced, 60)
        return source, target, m

    def stream_row(self, row):
        words, writers, pipeline = STREAMS[row]
        count = max(20_000, int(2_000_000 * self.opts.scale))
        runs = {"native": [], "keyhaul": []}
        for i in range(self.opts.runs):
            for who in runs:
                note("%s, run %d of %d: %s" % (row, i + 1, self.opts.runs, who))
                runs[who].append(self.stream_run(who, count, 0, writers, pipeline))
        self.results.append({"row": row, "what": words, "commands": count,
                             **{w: medians(r) for w, r in runs.items()}})

    @staticmethod
    def pour_all(source, target, count, last, n=3, pipeline=1000):
        """n writers, until what they wrote is on the target; seconds of the writers, and of all."""
        start = time.monotonic()
        writers = [multiprocessing.Process(
            target=pour, args=(source.address, w, count // n, pipeline)) for w in range(n)]
        for w in writers:
            w.start()
        for w in writers:
            w.join()
        written = time.monotonic() - start
        with source.connect() as c:
            c.call("SET", last, 1)
        with target.connect() as c:
            wait_for(lambda: c.call("GET", last), 300, 0.002)
        return written, time.monotonic() - start

    def stream_run(self, who, count, warm=0, writers=3, pipeline=1000):
        source, target, m = self.attached(who)
        try:
            if warm:
                self.pour_all(source, target, warm, "warm")
            before = source.cpu_s(), target.cpu_s(), cpu_s(m)
            written, wall = self.pour_all(source, target, count, "the end", writers, pipeline)
            n = count // writers * writers
            out = {"wall_s": wall, "rate": n / wall, "behind_s": wall - written,
                   "source_us": (source.cpu_s() - before[0]) * 1e6 / n,
                   "target_us": (target.cpu_s() - before[1]) * 1e6 / n,
                   "mover_us": (cpu_s(m) - before[2]) * 1e6 / n,
                   "rss_mb": (target if who == "native" else m).peak_rss_mb()}
            if who == "on" and not self.written(target):
                raise SystemExit("bench: no checkpoint on the target")
            return out
        finally:
            m.close()
            source.stop()
            target.stop()

    @staticmethod
    def written(target):
        return any(k.startswith(b"keyhaul:checkpoint:") and b" stream " in target.call("GET", k)
                   for k in target.call("KEYS", "keyhaul:checkpoint:*"))

    def resume_row(self):
        """What going on later costs: with checkpoints and the log, and without, in turn."""
        count = max(20_000, int(2_000_000 * self.opts.scale))
        seconds = max(3.0, 10 * self.opts.scale)
        warm = int(900_000 * self.opts.scale)  # 130 MB: the log begins to write over its files
        pairs = []
        for i in range(max(5, self.opts.runs)):
            pair = {}
            for who in ("off", "on") if i % 2 else ("on", "off"):
                note("resume, pair %d: %s" % (i + 1, who))
                pair[who] = {**self.stream_run(who, count, warm), **self.lag_run(who, seconds)}
            pairs.append(pair)
        ratios = {k: statistics.median(p["on"][k] / p["off"][k] for p in pairs)
                  for k in ("mover_us", "drip_us", "source_us", "target_us", "p50_ms")}
        self.results.append({"row": "resume", "commands": count, "pairs": len(pairs),
                             "what": "--resume yes beside no", "ratio": ratios,
                             **{w: medians([p[w] for p in pairs]) for w in ("on", "off")}})

    def lag_row(self):
        seconds = max(3.0, 15 * self.opts.scale)
        runs = {"native": [], "keyhaul": []}
        for i in range(self.opts.runs):
            for who in runs:
                note("lag, run %d of %d: %s" % (i + 1, self.opts.runs, who))
                runs[who].append(self.lag_run(who, seconds))
        self.results.append({"row": "lag", "what": "5,000 writes/s",
                             **{w: medians(r) for w, r in runs.items()}})

    def lag_run(self, who, seconds):
        """Every 2 ms ten writes, the last one a probe that carries the time; polled on the target."""
        source, target, m = self.attached(who)
        writer = multiprocessing.Process(target=drip, args=(source.address, seconds))
        lags, last = [], b""
        try:
            before = cpu_s(m)
            writer.start()
            with target.connect() as c:
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    v = c.call("GET", "probe")
                    if v and v != last:
                        lags.append((time.monotonic_ns() - int(v)) / 1e6)
                        last = v
                    else:
                        time.sleep(0.0001)
            writer.join()
            drip_us = (cpu_s(m) - before) * 1e6 / (5000 * seconds)
        finally:
            writer.kill()
            m.close()
            source.stop()
            target.stop()
        if len(lags) < 100:
            raise SystemExit("bench: %s: only %d probes arrived" % (who, len(lags)))
        lags.sort()
        return {"p50_ms": lags[len(lags) // 2], "p99_ms": lags[int(len(lags) * 0.99)],
                "max_ms": lags[-1], "probes": len(lags), "drip_us": drip_us}

    # -- clusters ------------------------------------------------------------------------------
    def new_side(self, who, name):
        config = {"client-output-buffer-limit": "replica 0 0 0", "io-threads": "1"}
        if who == "one":
            return Server(self.opts.server, config, name=name)
        return Cluster(SHARDS, replicas=0, binary=self.opts.server, name=name, config=config)

    def cluster_row(self, row):
        name, *stream = CLUSTER_ROWS[row]
        runs = {"one": [], "cluster": []}
        with contextlib.ExitStack() as stack:
            out = {"row": row, "clusters": True, "what": stream[0] if stream else ROWS[name][1]}
            if stream:
                out["n"] = max(20_000, int(stream[1] * self.opts.scale)) // SHARDS * SHARDS
            else:
                sources = {w: stack.enter_context(self.new_side(w, "source")) for w in runs}
                out["n"] = self.fill_sides(sources, name)
            for i in range(max(3, self.opts.runs)):
                for who in ("one", "cluster") if i % 2 else ("cluster", "one"):
                    note("%s, pair %d: %s" % (row, i + 1, who))
                    runs[who].append(self.cluster_stream_run(who, name, out["n"], stream[2])
                                     if stream else
                                     self.cluster_snapshot_run(who, sources[who], out["n"]))
        out["pairs"] = len(runs["one"])
        out["ratio"] = {k: statistics.median(c[k] / o[k] if o[k] else 0.0
                                             for c, o in zip(runs["cluster"], runs["one"]))
                        for k in runs["one"][0]}
        self.results.append({**out, **{w: medians(r) for w, r in runs.items()}})

    def fill_sides(self, sources, row):
        keys, words, fill = ROWS[row]
        keys = max(1, int(keys * self.opts.scale / 2))
        for who, side in sources.items():
            note("filling %d %s: %s" % (keys, words, who))
            for p in primaries(side):
                with p.connect(timeout=600) as c:
                    fill(c, keys, who == "cluster")
        counts = [sum(map(count_keys, primaries(side))) for side in sources.values()]
        if counts[0] != counts[1]:
            raise SystemExit("bench: not the same data on both sides: %s" % counts)
        return counts[0]

    def cluster_snapshot_run(self, who, source, keys):
        with self.new_side(who, "target") as target:
            before = cpu_of(source), cpu_of(target)
            start = time.monotonic()
            m = self.mover("keyhaul", source, target, "--until", "caught-up")
            try:
                if m.wait(900):
                    raise SystemExit("bench: keyhaul failed:\n" + m.said[-3000:])
            finally:
                m.close()
            wall = time.monotonic() - start
            for p in primaries(source):
                wait_reaped(p)
            there = sum(map(count_keys, primaries(target)))
            if there != keys:
                raise SystemExit("bench: keyhaul lost keys: %d of %d" % (there, keys))
            return {"wall_s": wall, "mover_us": m.cpu_s() * 1e6 / keys,
                    "source_us": (cpu_of(source) - before[0]) * 1e6 / keys,
                    "target_us": (cpu_of(target) - before[1]) * 1e6 / keys,
                    "rss_mb": m.peak_rss_mb()}

    def cluster_stream_run(self, who, command, count, backlog):
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(self.new_side(who, "source"))
            target = stack.enter_context(self.new_side(who, "target"))
            m = stack.enter_context(contextlib.closing(self.mover("keyhaul", source, target)))
            split = even_split(SHARDS)
            ends = [(primaries(source)[w % len(primaries(source))],
                     primaries(target)[w % len(primaries(target))],
                     tag_of(split[w][0])) for w in range(SHARDS)]
            arrived(ends, "ready")
            work = [shard_keys(w, split[w] if who == "cluster" else None) for w in range(SHARDS)]
            pour_shards(ends, command, work, count // 4)
            arrived(ends, "warm")
            before = cpu_of(source), cpu_of(target), cpu_s(m)
            start = time.monotonic()
            if backlog:
                m.proc.send_signal(signal.SIGSTOP)
            pour_shards(ends, command, work, count)
            if backlog:
                start = time.monotonic()
                m.proc.send_signal(signal.SIGCONT)
            arrived(ends, "end")
            return {"wall_s": time.monotonic() - start,
                    "mover_us": (cpu_s(m) - before[2]) * 1e6 / count,
                    "source_us": (cpu_of(source) - before[0]) * 1e6 / count,
                    "target_us": (cpu_of(target) - before[1]) * 1e6 / count,
                    "rss_mb": m.peak_rss_mb()}

    # -- decoding ------------------------------------------------------------------------------
    def inspect_row(self):
        binaries = [("", keyhaul_binary())]
        if self.opts.before:
            binaries.insert(0, ("before", self.opts.before))
        for words, compressed, fills in INSPECT:
            note("filling " + words)
            with self.new_server("source") as source:
                with source.connect(timeout=600) as c:
                    c.call("CONFIG", "SET", "rdbcompression", "yes" if compressed else "no")
                    for fill, keys in fills:
                        fill(c, max(1, int(keys * self.opts.scale)))
                    c.call("SAVE")
                self.inspect_file(os.path.join(source.dir, "dump.rdb"), words, binaries)

    def inspect_file(self, path, words, binaries):
        for form, what in (("json", "passed over"), ("jsonl", "decoded")):
            runs = {who: [] for who, _ in binaries}
            for _ in range(max(3, self.opts.runs)):
                for who, binary in binaries:
                    runs[who].append(self.inspect_run(binary, path, form))
            for who, measured in runs.items():
                self.results.append({"row": "inspect", "data": words, "what": what, "form": form,
                                     "by": who, "file_mb": os.path.getsize(path) / 1e6,
                                     **medians(measured)})

    def inspect_run(self, binary, path, form):
        with open(os.devnull, "wb") as null, tempfile.TemporaryFile() as report:
            start = time.monotonic()
            child = subprocess.Popen([binary, "inspect", path, "--output", form],
                                     stdout=report if form == "json" else null)
            pid, rss = 0, 0.0
            while not pid:  # not rusage's size: there the parent's before exec counts as well
                rss = max(rss, peak_rss_mb(child.pid))
                time.sleep(0.001)
                pid, status, rusage = os.wait4(child.pid, os.WNOHANG)
            wall = time.monotonic() - start
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode:
                raise SystemExit("bench: keyhaul inspect failed")
            if form == "json":
                report.seek(0)
                self.inspect_keys = json.load(report)["keys"]
        cpu = rusage.ru_utime + rusage.ru_stime
        return {"wall_s": wall, "mb_per_s": os.path.getsize(path) / 1e6 / wall,
                "mb_per_cpu_s": os.path.getsize(path) / 1e6 / cpu,
                "keys_per_s": self.inspect_keys / wall, "cpu_s": cpu, "rss_mb": rss}


def cpu_s(m):
    """Of keyhaul's threads, to the nanosecond where the kernel tells it: some runs are short."""
    if isinstance(m, Native):
        return 0.0
    try:
        told = 0
        for task in os.listdir("/proc/%d/task" % m.proc.pid):
            with open("/proc/%d/task/%s/schedstat" % (m.proc.pid, task)) as f:
                told += int(f.read().split()[0])
        return told / 1e9
    except FileNotFoundError:
        return m.cpu_s()


def primaries(side):
    return [side] if isinstance(side, Server) else side.primaries()


def cpu_of(side):
    return sum(p.cpu_s() for p in primaries(side))


def arrived(ends, word):
    """What is written last on each shard (source, target, hash tag) is on the target."""
    for source, _, tag in ends:
        source.call("SET", "%s:{%s}" % (word, tag), 1)
    for _, target, tag in ends:
        with target.connect() as c:
            wait_for(lambda: c.call("GET", "%s:{%s}" % (word, tag)), 300, 0.002)


def shard_keys(writer, slots, count=200_000):
    """Names of this writer's keys, all of them in these slots."""
    found, i = [], 0
    while len(found) < count:
        key = b"s:%d:%d" % (writer, i)
        if slots is None or slot_of(key) in slots:
            found.append(key)
        i += 1
    return found


def pour_shards(ends, command, work, count):
    writers = [multiprocessing.Process(target=pour_keys, args=(
        source.address, command, keys, count // SHARDS)) for (source, *_), keys in zip(ends, work)]
    for w in writers:
        w.start()
    for w in writers:
        w.join()


def pour_keys(address, command, keys, count):
    from lib.resp import Client
    c = Client(address)
    more = (random.Random(len(keys)).randbytes(100),) if command == "SET" else ()
    cmds = [encode((command, k, *more)) for k in keys]
    for done in range(0, count, 1000):
        n = min(1000, count - done)
        at = done % len(cmds)
        part = cmds[at:at + n]
        part += cmds[:n - len(part)]
        c.send(b"".join(part))
        ends = 0
        while ends < n:  # each reply is a line
            ends += c.sock.recv(65536).count(b"\n")


def pour(address, writer, count, pipeline):
    from lib.resp import Client
    c = Client(address)
    value = random.Random(writer).randbytes(100)
    done = 0
    while done < count:
        n = min(pipeline, count - done)
        c.send(b"".join(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$100\r\n%s\r\n" % (len(k), k, value)
                        for k in (b"s:%d:%d" % (writer, (done + i) % 200_000) for i in range(n))))
        want = 5 * n  # +OK\r\n each
        while want:
            want -= len(c.sock.recv(min(want, 65536)))
        done += n


def drip(address, seconds):
    from lib.resp import Client
    c = Client(address)
    rng = random.Random(5)
    end = next_at = time.monotonic()
    end += seconds
    while next_at < end:
        cmds = [("SET", "d:%d" % rng.randrange(100_000), rng.randbytes(100)) for _ in range(9)]
        cmds.append(("SET", "probe", time.monotonic_ns()))
        c.send(b"".join(map(encode, cmds)))
        for _ in cmds:
            c.read()
        next_at += 0.002
        left = next_at - time.monotonic()
        if left > 0:
            time.sleep(left)


def wait_reaped(source):
    """The snapshot child's CPU counts once the source has waited for it."""
    def reaped():
        """the source's snapshot child ends"""
        with source.connect() as c:
            return c.info("persistence")["rdb_bgsave_in_progress"] == "0"
    wait_for(reaped, 60)


def medians(runs):
    return {k: statistics.median(r[k] for r in runs) for k in runs[0]}


def note(text):
    if sys.stderr.isatty():
        print("\r\033[K  " + text, end="", file=sys.stderr, flush=True)


def ratio(a, b):
    return "%.2f" % (a / b) if b else "-"


def print_table(results, opts):
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    line = "%-29s %-8s %8s %8s %8s %8s %8s %7s"
    print("CPU in us per key or command; rss is keyhaul's, or that of the replica itself")
    print("scale %g, median of %d, %d processors, replica loads: %s" % (
        opts.scale, opts.runs, os.cpu_count(), opts.native_load))
    print(line % ("", "", "wall s", "keyhaul", "source", "target", "sum", "rss MB"))
    print("-" * 91)
    for r in results:
        if r["row"] in ("lag", "resume", "inspect") or "clusters" in r:
            continue
        words = "%s %s" % (short(r.get("keys") or r["commands"]), r["what"])
        for who, text in zip(("native", "keyhaul"), textwrap.wrap(words, 29) + [""]):
            x = r[who]
            total = x["mover_us"] + x["source_us"] + x["target_us"]
            print(line % (text, who,
                          "%.2f" % x["wall_s"], "%.2f" % x["mover_us"] if who != "native" else "-",
                          "%.2f" % x["source_us"], "%.2f" % x["target_us"], "%.2f" % total,
                          "%.1f" % x["rss_mb"]))
        n, k = r["native"], r["keyhaul"]
        both = lambda x: x["mover_us"] + x["source_us"] + x["target_us"]
        print(line % ("", "ratio", ratio(k["wall_s"], n["wall_s"]), "",
                      ratio(k["source_us"], n["source_us"]), ratio(k["target_us"], n["target_us"]),
                      ratio(both(k), both(n)), ""))
        if r["row"] in STREAMS:
            print("  until visible on the target: native %.0f/s, keyhaul %.0f/s, ratio %s" % (
                n["rate"], k["rate"], ratio(k["rate"], n["rate"])))
            print("  behind when the writers ended: native %.3f s, keyhaul %.3f s" % (
                n["behind_s"], k["behind_s"]))
        print()
    for r in results:
        if r["row"] == "lag":
            print("lag at %s        p50 ms    p99 ms    max ms" % r["what"])
            for who in ("native", "keyhaul"):
                x = r[who]
                print("  %-26s %8.2f  %8.2f  %8.2f" % (who, x["p50_ms"], x["p99_ms"], x["max_ms"]))


    for r in results:
        if r["row"] == "resume":
            print("going on later (median of %d pairs)     on       off     ratio" % r["pairs"])
            for key, text in (("mover_us", "keyhaul, us per command"),
                              ("drip_us", "the same at 5,000/s"),
                              ("source_us", "source, us per command"),
                              ("target_us", "target, us per command"), ("p50_ms", "lag p50, ms")):
                print("  %-32s %8.3f  %8.3f  %8.2f" % (
                    text, r["on"][key], r["off"][key], r["ratio"][key]))


def print_clusters(results):
    rows = [r for r in results if "clusters" in r]
    if not rows:
        return
    line = "%-33s %-8s %8s %8s %8s %8s %7s"
    print("%d shards to %d, beside one server to one, median of %d pairs" % (
        SHARDS, SHARDS, min(r["pairs"] for r in rows)))
    print(line % ("", "", "wall s", "keyhaul", "source", "target", "rss MB"))
    print("-" * 86)
    for r in rows:
        words = "%s %s" % (short(r["n"]), r["what"])
        for who, text in (("one", words), ("cluster", ""), ("ratio", "")):
            x = r[who]
            print(line % (text, who, *("%.2f" % x[k] for k in (
                "wall_s", "mover_us", "source_us", "target_us", "rss_mb"))))
    print()


def print_inspect(results):
    rows = [r for r in results if r["row"] == "inspect"]
    if not rows:
        return
    line = "%-27s %-12s %-7s %7s %10s %7s %9s %7s"
    print("decode: inspect of RDBs of %.0f to %.0f MB, one core, median of the runs" % (
        min(r["file_mb"] for r in rows), max(r["file_mb"] for r in rows)))
    print(line % ("", "", "", "MB/s", "keys/s", "wall s", "MB/CPU s", "rss MB"))
    print("-" * 93)
    for i, r in enumerate(rows):
        first = i == 0 or rows[i - 1]["data"] != r["data"]
        print(line % (r["data"] if first else "", r["what"], r["by"], "%.0f" % r["mb_per_s"],
                      "%.0f" % r["keys_per_s"], "%.2f" % r["wall_s"], "%.0f" % r["mb_per_cpu_s"],
                      "%.1f" % r["rss_mb"]))


def short(n):
    return "%g M" % (n / 1e6) if n >= 1_000_000 else "%g k" % (n / 1e3) if n >= 1000 else "%d" % n


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*ROWS, *STREAM_ROWS, *CLUSTER_ROWS, "inspect"]
    p.add_argument("--scale", type=float, default=1.0, help="of the numbers of keys and commands")
    p.add_argument("--rows", default=",".join(names), help="of: " + ",".join(names))
    p.add_argument("--runs", type=int, default=1, help="take the median of so many")
    p.add_argument("--server", help="server binary, default redis-server of PATH")
    p.add_argument("--native-load", default="disabled",
                   choices=("disabled", "on-empty-db", "swapdb"),
                   help="the replica's repl-diskless-load")
    p.add_argument("--before", metavar="KEYHAUL", help="another build, for the inspect row")
    p.add_argument("--json", metavar="FILE", help="all figures, - for standard output")
    opts = p.parse_args()
    rows = opts.rows.split(",")
    unknown = set(rows) - set(names)
    if unknown:
        p.error("unknown rows: " + ",".join(sorted(unknown)))
    if not os.path.exists(keyhaul_binary()):
        raise SystemExit("bench: no %s: run make first, or set KEYHAUL" % keyhaul_binary())
    b = Bench(opts)
    try:
        for row in rows:
            if row in STREAMS:
                b.stream_row(row)
            elif row == "lag":
                b.lag_row()
            elif row == "resume":
                b.resume_row()
            elif row in CLUSTER_ROWS:
                b.cluster_row(row)
            elif row == "inspect":
                b.inspect_row()
            else:
                b.snapshot_row(row)
    finally:
        shutil.rmtree(b.folder, ignore_errors=True)
    if opts.json == "-":
        print(json.dumps(b.results, indent=2))
    else:
        if any(r["row"] != "inspect" and "clusters" not in r for r in b.results):
            print_table(b.results, opts)
        print_clusters(b.results)
        print_inspect(b.results)
        if opts.json:
            with open(opts.json, "w") as f:
                json.dump(b.results, f, indent=2)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
