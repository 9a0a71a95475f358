# SPDX-License-Identifier: BSD-3-Clause
# Snapshots into a cluster: every type and size, while slots move and primaries change; what stood
# there before, what a repeated snapshot does not have any more, and deadlines.
import os
import random
import tempfile
import threading

import pytest

from lib.cluster import Cluster
from lib.clustercompare import assert_equal
from lib.clustermove import ClusterKeyhaul
from lib.dataset import FUNCTION, FUNCTION_2, Sizes, big_keys, everything, small_keys
from lib.faultproxy import FaultProxy
from lib.mover import Restore, keyhaul_binary
from lib.server import binary_version, find_servers
from lib.shape import Single

# Some seconds of load, so that things can happen meanwhile.
SIZES = Sizes(small_keys=60_000, string_bytes=24 << 20, hash_fields=60_000, list_items=60_000,
              set_members=40_000, zset_members=40_000, stream_entries=20_000,
              element_bytes=3 << 20)


def fill(shape, sizes=SIZES, seed=3):
    with shape.router(timeout=300) as r:
        r.feed(everything(shape, sizes, seed))
        r.feed(small_keys(sizes.small_keys, random.Random(seed), 0))
        big_keys(r, sizes)
    for code in FUNCTION, FUNCTION_2:
        shape.everywhere("FUNCTION", "LOAD", "REPLACE", code)


@pytest.fixture(scope="module")
def source():
    s = Single(name="load-source")
    s.start()
    fill(s)
    yield s
    s.stop()


@pytest.fixture(scope="module")
def cluster():
    c = Cluster(3, 1, name="load-target")
    c.start()
    yield c
    c.stop()


@pytest.fixture
def target(cluster):
    cluster.wait_ok()
    cluster.everywhere("FLUSHALL")
    cluster.everywhere("FUNCTION", "FLUSH")
    return cluster


@pytest.fixture
def migrate(cleanup):
    """migrate(source, target, *options): a running keyhaul."""
    things, folder = cleanup
    if not os.path.exists(keyhaul_binary()):
        pytest.fail("no %s: run make, or set KEYHAUL" % keyhaul_binary())

    def run(source, target, *options, **kw):
        k = ClusterKeyhaul(source, target, *options, folder=tempfile.mkdtemp(dir=folder), **kw)
        things.append(k)
        return k
    return run


class Background(threading.Thread):
    """Does it again and again until told to stop; its failure is the test's."""

    def __init__(self, what):
        super().__init__(daemon=True)
        self.what, self.ended, self.failure, self.times = what, threading.Event(), None, 0
        self.start()

    def run(self):
        try:
            while not self.ended.is_set():
                self.what()
                self.times += 1
        except Exception as e:
            self.failure = e

    def stop(self):
        self.ended.set()
        self.join(120)
        if self.failure:
            raise self.failure
        assert not self.is_alive()
        return self.times


@pytest.fixture
def slow(source, cleanup):
    """The source behind a narrow link, so that things can happen during the load; widen()."""
    p = FaultProxy(source.primary.address)
    cleanup[0].append(p)
    p.bytes_per_s = 3 << 20
    return p


def loading(k, keys=3000):
    """In the middle of its load."""
    k.wait_metric(lambda m: m["keys_written"] > keys)
    assert k.phase() == "snapshot"


def test_every_type(source, target, migrate):
    k = migrate(source, target, "--type", "full")
    k.expect(0, timeout=120)
    assert_equal(source, target, entries_read=True)
    m = k.metrics()
    assert m["keys_written"] == m["keys_read"] and m["errors"] == 0
    assert m["retries"] == 0


def test_slots_move_meanwhile(source, slow, target, migrate):
    """Slots of every shard go to another one and back, by MIGRATE, key by key."""
    rng = random.Random(7)

    def move():
        a, b = rng.sample(range(3), 2)
        slots = rng.sample(sorted(target.slots_of(a)), 60)
        target.reshard(slots, a, b, batch=5)

    slow.bytes_per_s = 6 << 20
    mover = Background(move)
    try:
        k = migrate(source, target, "--type", "full", source_uri=slow.uri())
        k.expect(0, timeout=240)
    finally:
        times = mover.stop()
    target.wait_ok()
    assert times > 0
    assert k.metrics()["retries"] > 0
    # MIGRATE hands the time left on, in whole milliseconds
    assert_equal(source, target, entries_read=True, late_ms=20)


def test_slots_of_every_shard_move_at_once(source, slow, target, migrate):
    """What comes to any node may be for another one by then."""
    k = migrate(source, target, "--type", "full", source_uri=slow.uri())
    loading(k)
    for a in range(3):
        target.reshard(sorted(target.slots_of(a))[:300], a, (a + 1) % 3, batch=100)
    assert k.phase() == "snapshot"
    slow.bytes_per_s = 0
    k.expect(0, "following them", timeout=240)
    assert k.metrics()["retries"] > 0
    assert_equal(source, target, entries_read=True, late_ms=20)


def test_primary_changes_meanwhile(source, slow, target, migrate):
    """A primary that is none any more may have lost writes: the snapshot is loaded once more."""
    k = migrate(source, target, "--type", "full", source_uri=slow.uri())
    loading(k)
    target.fail_over(1)
    slow.bytes_per_s = 0
    k.expect(0, "office", "deleted from the target", timeout=240)
    assert_equal(source, target, entries_read=True)


# -- what stood there before -----------------------------------------------------------------------

SMALL = Sizes(small_keys=1500, string_bytes=1 << 20, hash_fields=3000, list_items=3000,
              set_members=3000, zset_members=3000, stream_entries=2000, element_bytes=5000)
FOREIGN = ["foreign:%d" % i for i in range(60)]


@pytest.fixture
def small(cleanup):
    s = Single(name="small-source")
    cleanup[0].append(s)
    s.start()
    fill(s, SMALL)
    return s


def put(shape, keys, value):
    with shape.router() as r:
        r.calls([("SET", k, value) for k in keys])


def get(shape, keys):
    with shape.router() as r:
        return r.calls([("GET", k) for k in keys])


def keys_of(source, count):
    """Strings of the source, in many slots."""
    return ["key:0:%d" % i for i in range(0, SMALL.small_keys, SMALL.small_keys // count)]


def test_conflicts_are_found_on_every_node(small, target, migrate):
    keys = keys_of(small, 30)
    put(target, FOREIGN, "mine")
    put(small, keys, "theirs")
    assert migrate(small, target, "--type", "full", "--until", "caught-up", "--on-conflict",
                   "overwrite").wait() == 0
    target.everywhere("FLUSHALL")
    put(target, keys[:7], "mine")
    migrate(small, target, "--type", "full").expect(
        3, "7 keys of the source exist there already", 'db 0 "%s"' % keys[0])
    put(target, FOREIGN * 30 + ["more:%d" % i for i in range(4000)], "mine")  # the larger side now
    migrate(small, target, "--type", "full").expect(3, "7 keys of the source exist there already")
    assert get(target, keys[:8]) == [b"mine"] * 7 + [None]
    k = migrate(small, target, "--type", "full", "--on-conflict", "skip").expect(0)
    assert k.metrics()["keys_skipped"] == 7
    assert get(target, keys[:8]) == [b"mine"] * 7 + [b"theirs"]
    migrate(small, target, "--type", "full", "--on-conflict", "overwrite").expect(0)
    assert get(target, keys) == [b"theirs"] * len(keys)
    assert get(target, FOREIGN) == [b"mine"] * len(FOREIGN)


def test_only_one_database(small, target, migrate):
    with small.primary.connect(3) as c:
        c.call("SET", "a", "b")
    k = migrate(small, target, "--type", "full")
    assert k.wait() != 0
    assert "--db" in k.said, k.said


def begin_and_kill(migrate, source, target, slow, *options):
    """A load that is cut off in the middle."""
    slow.bytes_per_s = 300 << 10
    k = migrate(source, target, *options, source_uri=slow.uri())
    loading(k, 200)
    k.proc.kill()
    k.wait()
    slow.bytes_per_s = 0


@pytest.mark.parametrize("moving", [False, True], ids=["still", "moving"])
def test_repeated_snapshot_deletes(small, target, migrate, cleanup, moving):
    """What the new snapshot does not have goes from every node, and nothing else; also while slots
    move."""
    things, folder = cleanup
    slow = FaultProxy(small.primary.address)
    things.append(slow)
    options = "--state-dir", os.path.join(folder, "state"), "--task", "t", "--until", "caught-up"
    put(target, FOREIGN, "mine")
    begin_and_kill(migrate, small, target, slow, *options)
    with small.router() as r:
        gone = keys_of(small, 500) + ["late:%d" % i for i in range(500)]
        r.calls([("DEL", k) for k in gone])
        put(target, gone[500:], "never on the source again")  # of the run that was killed
    rng = random.Random(5)

    def move():
        a, b = rng.sample(range(3), 2)
        target.reshard(rng.sample(sorted(target.slots_of(a)), 40), a, b, batch=5)

    mover = Background(move) if moving else None
    try:
        k = migrate(small, target, *options, source_uri=slow.uri()).expect(
            0, "not emptied|deleted from the target", timeout=120)
    finally:
        if mover:
            mover.stop()
    assert k.metrics()["keys_deleted"] >= 500
    assert get(target, FOREIGN) == [b"mine"] * len(FOREIGN)
    target.wait_ok()
    assert_equal(small, target, ignore=FOREIGN, late_ms=20 if moving else 0)


# -- functions ---------------------------------------------------------------------------------------

def libraries(shape):
    return [sorted(dict(zip(x[::2], x[1::2]))[b"library_name"] for x in r)
            for r in shape.everywhere("FUNCTION", "LIST")]


def test_functions_on_every_node(small, target, migrate):
    migrate(small, target, "--type", "full").expect(0)
    assert libraries(target) == [[b"khlib", b"khother"]] * 3
    target.everywhere("FLUSHALL")
    target.primary_of(1).call("FUNCTION", "DELETE", "khlib")
    migrate(small, target, "--type", "full").expect(3, "function library")
    target.everywhere("FLUSHALL")
    migrate(small, target, "--type", "full", "--on-conflict", "skip").expect(0, "left as it is")
    assert libraries(target) == [[b"khlib", b"khother"]] * 3


# -- deadlines ---------------------------------------------------------------------------------------

def put_deadlines(source, count, rng):
    with source.router() as r:
        r.calls([("SET", "near:%d" % i, i, "PX", rng.randrange(20_000, 500_000))
                 for i in range(count)])


def test_deadlines_are_exact_in_the_end(small, target, migrate):
    """Held during the load, given back at the node that has the key by then."""
    put_deadlines(small, 6000, random.Random(2))
    rng = random.Random(6)

    def move():
        a, b = rng.sample(range(3), 2)
        target.reshard(rng.sample(sorted(target.slots_of(a)), 40), a, b, batch=20)

    migrate(small, target, "--until", "caught-up").expect(0)
    assert_equal(small, target)
    target.everywhere("FLUSHALL")
    target.everywhere("FUNCTION", "FLUSH")
    mover = Background(move)
    try:
        migrate(small, target, "--until", "caught-up").expect(0, timeout=120)
    finally:
        mover.stop()
    target.wait_ok()
    assert_equal(small, target, late_ms=20)


def held(target):
    """How many keys of ours have a deadline thousands of years ahead."""
    with target.router() as r:
        told = r.calls([("PEXPIRETIME", "near:%d" % i) for i in range(3000)])
    return sum(t > 10**14 for t in told)


def test_deadlines_of_a_killed_run(small, target, migrate, cleanup):
    """Nobody has notes of them: they are found on all nodes, also while slots move."""
    options = "--state-dir", os.path.join(cleanup[1], "state"), "--task", "t"
    put_deadlines(small, 3000, random.Random(2))
    writer = Background(lambda: small.call("INCR", "busy"))  # a source that is never quiet
    try:
        k = migrate(small, target, *options)
        k.wait_metric(lambda m: m.get("caught_up_ms"))
        k.proc.kill()
        k.wait()
    finally:
        writer.stop()
    assert held(target) > 100
    rng = random.Random(8)

    def move():
        a, b = rng.sample(range(3), 2)
        target.reshard(rng.sample(sorted(target.slots_of(a)), 40), a, b, batch=20)

    mover = Background(move)
    try:
        migrate(small, target, *options, "--until", "caught-up").expect(
            0, "expiries of before are still held back", timeout=120)
    finally:
        mover.stop()
    target.wait_ok()
    assert held(target) == 0
    assert_equal(small, target, late_ms=20)


@pytest.mark.parametrize("server", ["valkey-8.1", "valkey-9.1"])
def test_import_mode(small, migrate, cleanup, server):
    """On every primary while the task runs, on none afterwards, also where primaries change."""
    if server not in find_servers():
        pytest.skip("no server %s here" % server)
    c = Cluster(3, 1, name="importing", binary=find_servers()[server])
    cleanup[0].append(c)
    c.start()

    def mode(nodes):
        return [n.call("CONFIG", "GET", "import-mode")[1] for n in nodes]

    put_deadlines(small, 500, random.Random(2))
    k = migrate(small, c)
    k.wait_caught_up()
    assert mode(c.primaries()) == [b"yes"] * 3
    c.fail_over(1)
    k.wait_caught_up()
    assert mode(c.primaries()) == [b"yes"] * 3
    k.finish()
    assert mode(c.nodes) == [b"no"] * 6
    assert_equal(small, c)


# -- files -------------------------------------------------------------------------------------------

def test_restore(small, target, cleanup):
    """A snapshot's keys go where they belong; commands of an AOF are refused before anything."""
    small.call("SAVE")
    k = Restore(os.path.join(small.primary.dir, "dump.rdb"), target, folder=cleanup[1])
    cleanup[0].append(k)
    k.expect(0)
    assert_equal(small, target, entries_read=True)
    target.everywhere("FLUSHALL")
    target.everywhere("FUNCTION", "FLUSH")
    aof = os.path.join(cleanup[1], "some.aof")
    with open(aof, "wb") as f:
        f.write(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n")
    k = Restore(aof, target, folder=cleanup[1])
    cleanup[0].append(k)
    k.expect(3, "target is a cluster", "migrate that one")
    assert target.call("GET", "a") is None


# -- nodes of several versions -----------------------------------------------------------------------

def mixed(cleanup, usual, other):
    """Three primaries, the last of another version."""
    c = Cluster(3, 0, name="mixed", binary=find_servers()[usual])
    odd = c.shards[2].nodes[0]
    odd.binary = find_servers()[other]
    odd.valkey, odd.version = binary_version(odd.binary)
    cleanup[0].append(c)
    return c.start()


@pytest.mark.parametrize("usual,other", [("redis-8.0", "redis-7.0"), ("redis-7.0", "redis-8.0")])
def test_the_oldest_node_decides(cleanup, migrate, usual, other):
    """What one of the nodes could hold and the others cannot goes to none of them as it is."""
    for name in usual, other:
        if name not in find_servers():
            pytest.skip("no server %s here" % name)
    target = mixed(cleanup, usual, other)
    s = Single(name="new-source", binary=find_servers()["redis-8.0"])
    cleanup[0].append(s)
    s.start()
    fill(s, SMALL)
    with s.router() as r:
        r.calls([("HSET", "timed:%d" % i, "f", i, "g", i) for i in range(30)])
        r.calls([("HPEXPIRE", "timed:%d" % i, 900_000, "FIELDS", 1, "f") for i in range(30)])
    migrate(s, target, "--type", "full").expect(3, "hashes with fields that expire",
                                                "Redis 7.0.* cannot hold that")
    migrate(s, target, "--type", "full", "--on-unsupported", "degrade").expect(0)
    with target.router() as r:
        assert r.calls([("HGET", "timed:%d" % i, "f") for i in range(30)]) == [
            b"%d" % i for i in range(30)]
    assert_equal(s, target)
