# SPDX-License-Identifier: BSD-3-Clause
# The main job: everything moves, completely and once, while an application keeps writing.
import os
import subprocess
import sys
import threading
import time

import pytest

from lib.compare import assert_equal
from lib.dataset import Sizes, big_keys, everything, fill
from lib.facts import replica_backlog, replica_lines
from lib.mover import ROOT, offset_of
from lib.resp import wait_for
from lib.server import find_servers
from lib.writer import Writer

DISKLESS = {"repl-diskless-sync": "yes", "repl-diskless-sync-delay": "0"}
DISK = {"repl-diskless-sync": "no"}


@pytest.mark.native
@pytest.mark.parametrize("config", [DISKLESS, DISK], ids=["diskless", "disk"])
def test_everything_under_writes(server, move, config):
    source, target = server("source", config=config), server("target")
    fill(source)
    with Writer(source, rate=4000) as w:
        k = move(source, target)
        k.wait_caught_up()
        time.sleep(1.5)
        counts = w.stop()
    assert counts["commands"] > 2000
    k.finish()
    r = assert_equal(source, target)
    assert r.keys > 2500


@pytest.mark.native
@pytest.mark.parametrize("seed", [1, 2])
def test_fast_writer(server, move, seed):
    """The stream starts while thousands of writes wait for the snapshot to be loaded."""
    source, target = server("source"), server("target")
    fill(source, Sizes(small_keys=20_000), dbs=range(4))
    with Writer(source, seed=seed, rate=0, dbs=range(16), count=40_000, batch=200) as w:
        k = move(source, target)
        w.wait()
    k.finish()
    assert_equal(source, target)


def test_types_and_encodings_stand_still(source, target, keyhaul):
    """No writes at all: then even the groups' read counters must be the same."""
    fill(source)
    k = keyhaul(source, target, "--until", "caught-up").expect(0)
    assert_equal(source, target, entries_read=True)
    m = k.metrics()
    assert m["phase"] == "done" and m["exit_status"] == 0 and m["errors"] == 0
    assert m["keys_written"] == m["keys_read"] > 2500
    assert m["functions_written"] >= 2


def test_large_values_in_bounded_memory(source, target, keyhaul):
    """100 MB string, hash of a million fields, long list, set, zset, stream; RSS at most 64 MB."""
    with source.connect(timeout=120) as c:
        big_keys(c, Sizes(string_bytes=100 << 20, hash_fields=1_000_000, list_items=200_000,
                          set_members=100_000, zset_members=100_000, stream_entries=100_000))
    with Writer(source, rate=1000, dbs=range(4), flush=()) as w:
        k = keyhaul(source, target)
        k.wait_caught_up(120)
        w.stop()
    k.finish(120)
    assert_equal(source, target)
    assert k.peak_rss_mb() <= 64, k.peak_rss_mb()


@pytest.mark.heavy
@pytest.mark.parametrize("config", [DISKLESS, DISK], ids=["diskless", "disk"])
def test_heavy(server, keyhaul, config):
    source, target = server("source", config=config), server("target")
    fill(source, Sizes.large())
    with source.connect(timeout=120) as c:
        c.call("SELECT", 1)
        c.feed((("SET", "large:%d" % i, os.urandom(50 << 20)) for i in range(4)), batch=1)
    with Writer(source, rate=5000) as w:
        k = keyhaul(source, target)
        k.wait_caught_up(300)
        time.sleep(20)
        w.stop()
    k.finish(120)
    assert_equal(source, target)
    assert k.peak_rss_mb() <= 64


def test_empty_source(source, target, keyhaul):
    keyhaul(source, target, "--until", "caught-up").expect(0)
    assert_equal(source, target)


@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_around_the_chunking_threshold(source, target, keyhaul, size):
    """Values that go as one command and values that go in pieces, and their expiries."""
    with source.connect() as c:
        for kind, key in (("list", "l"), ("set", "s"), ("zset", "z"), ("hash", "h")):
            per = 1000
            n = size // per
            values = [b"%07d" % i + os.urandom(per - 7) for i in range(n)]
            for i in range(0, n, 500):
                part = values[i:i + 500]
                args = {"list": ["RPUSH", key, *part], "set": ["SADD", key, *part],
                        "zset": ["ZADD", key, *[x for j, v in enumerate(part) for x in (j * 1.1, v)]],
                        "hash": ["HSET", key, *[x for v in part for x in (v[:9], v)]]}[kind]
                c.call(*args)
            c.call("PEXPIREAT", key, int(time.time() * 1000) + 3_600_123)
        c.call("SET", "str", os.urandom(size), "PX", 3_600_000)
        c.call("HSET", "one-field", "f", os.urandom(size))
        c.feed((("XADD", "x", "%d-1" % (i + 1), "f", os.urandom(950))
                for i in range(size // 1000)))
        c.call("XGROUP", "CREATE", "x", "g", "0")
        c.call("XREADGROUP", "GROUP", "g", "c", "COUNT", 300, "STREAMS", "x", ">")
        c.call("XDEL", "x", "5-1", "6-1", "%d-1" % (size // 1000))
    keyhaul(source, target, "--until", "caught-up").expect(0)
    assert_equal(source, target)


def test_until_caught_up_under_writes(source, target, keyhaul):
    fill(source, Sizes(small_keys=500), dbs=[0, 1])
    with Writer(source, rate=500, dbs=[0, 1], flush=(), swap=()) as w:
        keyhaul(source, target, "--until", "caught-up").expect(0, timeout=30)
        w.stop()


def test_type_full(source, target, keyhaul):
    fill(source)
    keyhaul(source, target, "--type", "full").expect(0)
    assert_equal(source, target, entries_read=True)
    assert not replica_lines(source)


def test_type_incremental(source, target, keyhaul):
    source.call("SET", "before", "1")
    source.call("RPUSH", "list", "a")
    k = keyhaul(source, target, "--type", "incremental")
    k.wait_metric(lambda m: m["phase"] in ("catch-up", "stream"))
    k.wait_caught_up()
    source.call("SET", "after", "2")
    source.call("RPUSH", "list", "b")
    k.finish()
    with target.connect() as c:
        assert c.call("GET", "before") is None
        assert c.call("GET", "after") == b"2"
        assert c.call("LRANGE", "list", 0, -1) == [b"b"]


@pytest.fixture
def changes_only(keyhaul, source, target, proxy, tmp_path):
    """A run that was killed while it attached; run(*options) goes on. The link is whole by then."""
    def begin(source, kind):
        link = proxy(source)
        link.hold_behind["down"] = b"REDIS00"
        args = ("--type", "incremental", "--state-dir", str(tmp_path), "--task", "t")

        def run(*options):
            return keyhaul(source, target, *args, *options, source_uri=link.uri())
        k = run()
        wait_for(lambda: (target.call("GET", "keyhaul:checkpoint:t") or b"").startswith(kind))
        source.call("INCR", "k")
        k.proc.kill()
        k.wait()
        link.hold_behind.clear()
        link.release()
        link.cut()
        return run
    return begin


def test_type_incremental_is_gone_on_with_from_where_it_attached(changes_only, source, target):
    source.call("SET", "before", "1")
    with source.connect(3) as c:
        c.call("SET", "before", "1")  # the stream has this database selected
    run = changes_only(source, b"1 stream ")
    with source.connect(3) as c:
        c.call("INCR", "k")
    source.call("INCR", "k")
    k = run()
    k.finish()
    assert target.call("GET", "k") == b"2" and target.call("EXISTS", "before") == 0
    with target.connect(3) as c:
        assert c.call("GET", "k") == b"1" and c.call("EXISTS", "before") == 0
    k = run()
    k.finish()
    assert target.call("GET", "k") == b"2"


def test_type_incremental_leaves_nothing_out_silently(changes_only, server, source, target):
    """Where the place is not known any more it is refused, with what to do."""
    source.call("REPLICAOF", *server("top").address)
    wait_for(lambda: source.connect().info("replication")["master_link_status"] == "up")
    source.call("CONFIG", "SET", "replica-read-only", "no")
    run = changes_only(source, b"1 loading ")
    run().expect(3, "--restart", "full.incremental")
    k = run("--restart")
    k.wait_metric(lambda m: m["phase"] in ("catch-up", "stream"))
    assert k.terminate() == 0
    target.call("FLUSHALL")
    run().expect(3, "--restart", "full.incremental")
    assert target.call("DBSIZE") == 0


@pytest.mark.parametrize("which", ["both", "source", "target"])
def test_unix_sockets(server, keyhaul, which):
    source = server("source", unix=which != "target")
    target = server("target", unix=which != "source")
    fill(source, Sizes(small_keys=500), dbs=[0, 1])
    with Writer(source, rate=1000, dbs=[0, 1], flush=(), swap=()) as w:
        k = keyhaul(source, target)
        k.wait_caught_up()
        w.stop()
    k.finish()
    assert_equal(source, target)


def test_source_that_is_itself_a_replica(server, keyhaul):
    top, source, target = server("top"), server("source"), server("target")
    fill(top, Sizes(small_keys=500), dbs=[0, 5])
    source.call("REPLICAOF", "127.0.0.1", top.port)
    wait_for(lambda: "state=online" in top.connect().info("replication").get("slave0", ""))
    wait_for(lambda: source.connect().info("persistence")["loading"] == "0")
    with top.connect(5) as c:
        c.call("SET", "select me", "1")  # the stream now has database 5 selected
    wait_for(lambda: source.call("GET", "select me", db=5) == b"1")
    k = keyhaul(source, target)
    wait_for(lambda: target.call("GET", "select me", db=5) == b"1")
    with top.connect(5) as c:
        c.call("INCR", "in 5")
    with Writer(top, rate=1000, count=2000, dbs=range(8), flush=(), swap=()) as w:
        w.wait()
    with top.connect() as c:
        c.call("SET", "the end", "1")
    wait_for(lambda: target.call("GET", "the end") == b"1")
    assert k.terminate() == 0
    assert_equal(top, target)


def test_transactions_stay_atomic(source, target, keyhaul):
    """A reader on the target never sees half of a transaction."""
    with source.connect() as c:
        c.call("MSET", "a", 0, "b", 0)
        k = keyhaul(source, target)
        k.wait_caught_up()
        stop, seen, bad = threading.Event(), set(), []

        def reader():
            with target.connect() as t:
                while not stop.is_set():
                    a, b, n = t.call("EVAL", "return {redis.call('GET',KEYS[1]), redis.call('GET',"
                                     "KEYS[2]), redis.call('LLEN',KEYS[3])}", 3, "a", "b", "l")
                    seen.add(a)
                    if a != b or n != int(a) * 50:
                        bad.append((a, b, n))

        thread = threading.Thread(target=reader)
        thread.start()
        for i in range(600):
            c.pipeline([("MULTI",), ("INCR", "a"), *[("RPUSH", "l", "x%d" % j) for j in range(50)],
                        ("INCR", "b"), ("EXEC",), ("SET", "between", i)])
        k.wait_caught_up()
        stop.set()
        thread.join()
    assert not bad, bad[:3]
    assert len(seen) > 5
    assert k.metrics()["errors"] == 0
    k.finish()
    assert k.metrics()["transactions"] >= 600
    assert_equal(source, target)


def test_big_transaction(source, target, keyhaul):
    """A transaction much larger than any buffer, also across databases."""
    k = keyhaul(source, target)
    k.wait_caught_up()
    with source.connect() as c:
        batch = [("MULTI",)]
        for i in range(20_000):
            batch.append(("RPUSH", "list:%d" % (i % 7), b"v" * 200))
            if i % 1000 == 0:
                batch.append(("SELECT", i // 1000 % 3))
        c.pipeline(batch + [("EXEC",)])
    k.finish()
    assert_equal(source, target)
    assert k.peak_rss_mb() <= 64


def test_publish_is_forwarded(source, target, keyhaul):
    k = keyhaul(source, target)
    k.wait_caught_up()
    with target.connect() as sub:
        sub.call("SUBSCRIBE", "news")
        source.call("PUBLISH", "news", "hello")
        assert sub.read() == [b"message", b"news", b"hello"]
    k.finish()


def test_functions_in_the_stream(source, target, keyhaul):
    fill(source, Sizes(small_keys=10), dbs=[0])
    k = keyhaul(source, target)
    k.wait_caught_up()
    with source.connect() as c:
        c.call("FUNCTION", "LOAD", "#!lua name=later\nredis.register_function('late', "
               "function(k,a) return redis.call('INCR',k[1]) end)")
        c.call("FUNCTION", "DELETE", "khother")
        c.call("FCALL", "late", 1, "counter")
        c.call("FCALL", "kh_set", 1, "by function", "v")
    k.finish()
    assert_equal(source, target)
    assert target.call("GET", "counter") == b"1"


def test_paused_target_is_spooled(source, target, keyhaul):
    """The source is drained at full speed although the target takes nothing."""
    k = keyhaul(source, target)
    k.wait_caught_up()
    target.pause()
    try:
        with source.connect() as c:
            for i in range(120):
                c.feed([("SET", "k:%d:%d" % (i, j), os.urandom(100_000)) for j in range(10)])
            sent = offset_of(source)

            def drained():
                """the source has nothing left to send"""
                k.alive()
                return replica_backlog(source) < 1 << 20
            wait_for(drained, 20)
            c.feed([("RPUSH", "order", i) for i in range(1000)])
            k.wait_metric(lambda m: m["received_offset"] >= sent)
            m = k.metrics()
            assert m["spool_ram_bytes"] + m["spool_disk_bytes"] > 60 << 20, m
            assert m["lag_bytes"] > 60 << 20
    finally:
        target.cont()
    k.finish()
    assert_equal(source, target)
    assert k.peak_rss_mb() <= 64
    assert k.metrics()["spool_disk_bytes"] == 0
    # the last stretch stays for the next run, and goes with the task
    spool = os.path.join(k.dir, "spool")
    (name,) = os.listdir(spool)
    subprocess.run([k.args[0], "finish", name.rsplit("-", 1)[0]], check=True, capture_output=True,
                   env={**os.environ, "XDG_STATE_HOME": k.dir})
    assert os.listdir(spool) == []


def test_min_replicas_and_wait_see_applied_data(source, target, keyhaul):
    """REPLCONF ACK is sent, every second at least: WAIT on the source returns."""
    k = keyhaul(source, target)
    k.wait_caught_up()
    with source.connect() as c:
        c.call("SET", "k", "v")
        assert c.call("WAIT", 1, 5000) == 1
        assert "lag=0" in c.info("replication")["slave0"] or \
            "lag=1" in c.info("replication")["slave0"]
    k.finish()


def test_demo(keyhaul):
    """tools/demo as a user runs it, small."""
    r = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "demo"), "--scale", "0.05",
                        "--seconds", "0.5"], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stdout + r.stderr
    assert "differences                        0" in r.stdout
    assert max(map(len, r.stdout.splitlines())) <= 80


def version_pairs():
    """Each other version at hand with the default one, both ways, and with itself."""
    others = [n for n in find_servers() if n != "default"]
    return [p for n in others for p in ((n, "default"), ("default", n), (n, n))]


@pytest.mark.parametrize("pair", version_pairs(),
                         ids=[" to ".join(p) for p in version_pairs()])
def test_versions(servers, server, keyhaul, pair):
    """Everything that both versions know; to a newer one and to itself with the newer types too."""
    source, target = (server(side, binary=servers[n]) for side, n in zip(("source", "target"), pair))
    with source.connect() as c:
        c.feed(everything(min(source, target, key=lambda s: s.version), Sizes()))
    with Writer(source, rate=2000, dbs=range(4), flush=(), swap=()) as w:
        k = keyhaul(source, target)
        k.wait_caught_up()
        time.sleep(0.3)
        w.stop()
    k.finish()
    assert_equal(source, target)
