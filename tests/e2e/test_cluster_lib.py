# SPDX-License-Identifier: BSD-3-Clause
# What the tests of clusters stand on, by itself: clusters and sentinels come up, fail over and are
# resharded under a writer that knows what was answered; the comparison finds what is planted.
import re
import time

import pytest

from lib.cluster import Cluster
from lib.clustercompare import assert_equal, compare
from lib.clusterload import CONSUMERS
from lib.clusterwriter import ClusterWriter
from lib.route import slot_of, tag_of
from lib.server import find_servers
from lib.shape import SentinelSet, Single

FOUND = find_servers()


def has(name):
    return pytest.mark.skipif(name not in FOUND, reason="no server %s here" % name)


def fill(shape, count=3000):
    with shape.router() as r:
        r.feed(("SET", "key:%d" % i, "value %d" % i) for i in range(count))
        r.feed(("RPUSH", "list:%d" % i, 1, 2, i) for i in range(count // 10))
        r.feed(("SET", "ttl:%d" % i, i, "PXAT", 4_000_000_000_000 + i) for i in range(99))
        for word in ("a", "b"):
            shape.everywhere("FUNCTION", "LOAD", "REPLACE", "#!lua name=%s\nredis.register_function"
                             "('%s_f', function() return 1 end)" % (word, word))


@pytest.fixture(scope="module")
def three():
    """Three shards with some data, for tests that leave both as they were."""
    with Cluster(3, 0) as c:
        fill(c)
        yield c


# -- clusters --------------------------------------------------------------------------------------
def test_comes_up(shape):
    begin = time.monotonic()
    c = shape(Cluster(3, 1))
    took = time.monotonic() - begin
    assert took < 10, "%.1f s; when nothing else runs it is 2.2" % took
    assert [len(c.slots_of(s)) for s in c.shards] == [5461, 5462, 5461]
    for i, p in enumerate(c.primaries()):
        assert p.call("ROLE")[0] == b"master"
        assert [r.call("ROLE")[2] for r in c.replicas_of(i)] == [p.port]
    for key in ("foo", "{tag}x", "a{}b", "{a}{b}", "x{y", "", tag_of(77)):
        slot = c.primaries()[0].call("CLUSTER", "KEYSLOT", key)
        assert slot_of(key) == slot
        assert slot in c.slots_of(c.shard_of(c.node_of(key)))
    assert slot_of(tag_of(77)) == 77
    c.call("SET", "foo", "bar")
    others = c.redis_client()
    assert others.get("foo") == b"bar"
    others.close()
    node = c.node_of("foo")
    c.fail_over(c.shard_of(node), "manual")
    assert c.node_of("foo") is not node and c.call("GET", "foo") == b"bar"


def test_fails_over_when_the_replica_is_cut_off(shape):
    """Half-open: the primary knows that its replica is gone, the replica hears nothing more."""
    c = shape(Cluster(3, 1, proxies=True))
    old = c.primary_of(0)
    old.proxy.forget("server")
    assert c.fail_over(0, "manual") is not old


def test_resharded_under_writer(shape):
    """Classic, back and forth, slowly enough that keys of a slot are on both sides."""
    c = shape(Cluster(3, 0))
    with ClusterWriter(c, slots=(0, 30), tags=25) as w:
        time.sleep(0.5)
        for _ in range(2):
            c.reshard(range(30), 0, 1, batch=2, gap_s=0.001)
            c.reshard(range(30), 1, 0, batch=2, gap_s=0.001)
        counts = w.stop()
        assert counts["moved"] and counts["ask"] and counts["commands"] > 1000, counts
        assert not counts["unknown"], counts
        assert w.problems(c) == []
    assert_equal(c, c, unsent=CONSUMERS)


@pytest.mark.parametrize("name", [pytest.param(n, marks=has(n)) for n in ("valkey-9.1",
                                                                          "redis-8.6")])
def test_resharded_atomically(shape, name):
    c = shape(Cluster(3, 0, binary=FOUND[name]))
    with ClusterWriter(c, slots=(0, 2000)) as w:
        time.sleep(0.3)
        c.reshard(range(2000), 0, 1, "atomic")
        assert 7 in c.slots_of(1) and 7 not in c.slots_of(0)
        c.reshard(range(2000), 1, 2, "atomic")
        counts = w.stop()
        assert counts["moved"] and not counts["unknown"], counts
        assert w.problems(c) == []
    assert_equal(c, c, unsent=CONSUMERS)


def test_failovers(shape):
    """Nothing is lost when asked to; what a cut replica has not got is."""
    c = shape(Cluster(3, 1, timeout_ms=1000))
    with ClusterWriter(c) as w:
        old = c.primary_of(0)
        assert c.fail_over(0, "manual") is not old
        c.fail_over(1, "manual")
        w.stop()
        assert w.problems(c) == []
    with ClusterWriter(c, seed=2, slots=(0, 5000)) as w:
        c.fail_over(0, "takeover", lose_s=0.4)
        w.stop()
        lost = w.problems(c)
        assert any("answered were" in x for x in lost), lost
    with ClusterWriter(c, seed=3, slots=(11000, 16000)) as w:
        old = c.primary_of(2)
        assert c.fail_over(2, "kill9", lose_s=0.4) is not old and old.up
        w.stop()
        assert w.problems(c) != []
    replica = c.replicas_of(1)[0]
    c.kill9(replica)
    assert c.replicas_of(1) == [replica] and not replica.up
    c.restart(replica)
    c.wait_ok()


def test_grows_and_shrinks(shape):
    c = shape(Cluster(3, 1, slots=[range(400), range(400, 8000), range(8000, 16384)]))
    with ClusterWriter(c, slots=(0, 1000)) as w:
        new = c.add_node()
        assert new is c.primary_of(3) and not c.slots_of(3)
        assert len(new.call("FUNCTION", "LIST")) == 1
        c.reshard(range(300, 600), None, 3)
        replica = c.add_node(3)
        assert c.replicas_of(3) == [replica]
        c.remove_node(replica)
        first = c.primary_of(0)
        c.remove_node(first)
        assert len(c.shards) == 3 and first not in c.nodes and not first.up
        w.stop()
        assert w.problems(c) == []
    assert sum(len(c.slots_of(s)) for s in c.shards) == 16384
    assert_equal(c, c, unsent=CONSUMERS)


def test_secured_and_announced(shape, certificates):
    """TLS and a password; each node is announced by a name and the port of its proxy."""
    c = shape(Cluster(2, 1, tls=certificates, password="secret", proxies=True, hostnames=True))
    told = {(a[2][0].decode(), a[2][1]) for a in c.primaries()[0].call("CLUSTER", "SLOTS")}
    assert told == {("node-%d.cluster.test" % p.number, p.public_port) for p in c.primaries()}
    assert not {port for _, port in told} & {n.port for n in c.nodes}
    c.add_user("mover", "moves", "+@all", "~*")
    assert c.uri("mover", "moves").startswith("rediss://mover:moves@127.0.0.1:")
    with c.nodes[0].connect(user="mover", password="moves") as r:
        assert r.call("ACL", "WHOAMI") == b"mover"
    fill(c, 300)
    c.reshard(range(20), 0, 1)
    c.fail_over(1)
    assert c.uri() == "rediss://:secret@" + ",".join("127.0.0.1:%d" % n.public_port
                                                     for n in (c.nodes[0], c.nodes[2]))
    with c.router() as r:
        assert r.calls([("GET", "key:%d" % i) for i in range(300)]) == [
            b"value %d" % i for i in range(300)]


@has("redis-6.0")
def test_before_7(shape):
    c = shape(Cluster(3, 1, binary=FOUND["redis-6.0"]))
    with ClusterWriter(c, functions=False, slots=(0, 900)) as w:
        c.reshard(range(50), 0, 2)
        c.fail_over(0)
        w.stop()
        assert w.problems(c) == []


# -- sentinels and single servers ------------------------------------------------------------------
def test_sentinels(shape):
    s = shape(SentinelSet())
    assert s.uri().startswith("redis+sentinel://127.0.0.1:") and s.uri().endswith("/mine")
    with ClusterWriter(s) as w:
        old = s.primary
        new = s.fail_over()
        assert new is s.primary is not old and old.call("ROLE")[0] == b"slave"
        assert s.fail_over("kill9", lose_s=0.4) is old
        w.stop()
        assert w.problems(s) != []
    with ClusterWriter(s, seed=2, cross=0.5) as w:
        time.sleep(0.5)
        w.stop()
        assert w.problems(s) == []


# What the writer must have done to a single server, with keys of several slots.
SEVERAL = """del unlink touch mset msetnx rename renamenx copy smove lmove rpoplpush blmove
brpoplpush sunionstore sinterstore sdiffstore zunionstore zinterstore zdiffstore zrangestore bitop
pfmerge geosearchstore georadius georadiusbymember sort xreadgroup eval fcall lmpop zmpop blpop
brpop bzpopmin multi exec xadd setrange zincrby append incr hincrby""".split()


def test_writer_of_single_server(shape):
    s = shape(Single())
    with ClusterWriter(s, cross=0.8, expiry="short", newer=0.1, rate=6000, tags=30) as w:
        time.sleep(3)
        w.stop()
        assert w.problems(s) == []
    with s.primary.connect() as c:
        stats = c.info("commandstats")
    done = {}
    for name, line in stats.items():
        f = dict(x.split("=") for x in line.split(","))
        done[name[len("cmdstat_"):]] = int(f["calls"]) - int(f["failed_calls"])
    assert [n for n in SEVERAL if done.get(n, 0) < 1] == []


@pytest.mark.parametrize("plant,words", [
    (lambda r, tag: r.call("INCR", "{%s}led:n" % tag), "led:n is"),
    (lambda r, tag: r.call("RPOP", "{%s}led:l" % tag), "marks lost"),
    (lambda r, tag: r.call("RPUSH", "{%s}led:l" % tag, r.call("LINDEX", "{%s}led:l" % tag, 0)),
     "marks twice"),
    (lambda r, tag: r.call("LMOVE", *["{%s}led:l" % tag] * 2, "LEFT", "RIGHT"), "out of order"),
    (lambda r, tag: r.call("APPEND", "{%s}led:a" % tag, "9/9,"), "nobody wrote"),
    (lambda r, tag: r.call("DEL", "{%s}led:x" % tag), "marks lost"),
    (lambda r, tag: r.call("INCR", "{%s}acct:1" % tag), "accounts of"),
    (lambda r, tag: r.call("INCR", "{%s}xacct:1" % tag), "accounts across"),
], ids=["doubled", "lost", "twice", "order", "strange", "stream", "torn", "torn-across"])
def test_ledger_finds(plant, words, written):
    s, w = written
    with s.router() as r:
        saved = s.primary.call("DEBUG", "RELOAD")
        assert saved == b"OK" and w.problems(s) == []
        plant(r, w.tags[0])
        assert any(words in x for x in w.problems(s)), w.problems(s)
        s.primary.call("DEBUG", "RELOAD", "NOSAVE")
        assert w.problems(s) == []


@pytest.fixture(scope="module")
def written():
    with Single() as s, ClusterWriter(s, tags=6, rate=4000, cross=0.3) as w:
        time.sleep(0.8)
        w.stop()
        yield s, w


# -- comparison ------------------------------------------------------------------------------------
def test_equal(three):
    with Single() as s:
        fill(s)
        assert assert_equal(three, s).keys == 3399
        assert assert_equal(s, three).keys == 3399
        s.call("SET", "keyhaul:checkpoint:{x}", "1")
        three.call("SET", "keyhaul:checkpoint:other", "1")
        assert_equal(three, s)


def test_databases_into_one(three, server):
    many = server()
    for db in 0, 3:
        with many.connect(db) as c:
            c.feed(("SET", "key:%d" % i, "value %d" % i) for i in range(3000) if i % 4 == db)
            c.feed(("SET", "only:%d" % i, i) for i in range(10) if db == 0)
    one = Single()
    one.nodes = [many]
    r = compare(one, three, flatten=True, functions=False, limit=10**6)
    missing = [x for x in r.differences if "missing on the target" in x]
    assert len(missing) == 10 and all("only:" in x and "source db0" in x for x in missing)
    assert r.count == 10 + 1500 + 300 + 99


@pytest.mark.parametrize("plant,words", [
    (("SET", "key:7", "other"), r"key b'key:7': string: .*slot \d+; target cluster-2"),
    (("DEL", "key:8"), "missing on the target"),
    (("SET", "new", "1"), "not on the source, but on the target"),
    (("PEXPIREAT", "ttl:5", 4_000_000_000_006), "expires at 4000000000005, on the target"),
    (("RPUSH", "list:9", "x"), "list: 3 elements, on the target 4"),
    (("LPUSH", "list:9", "x"), "list: "),
    (None, "functions differ between cluster-0"),
    ("stray", "which does not own its slot"),
], ids=["value", "missing", "new", "expiry", "longer", "list", "function", "stray"])
def test_comparison_finds(three, plant, words, undone):
    if plant is None:
        three.primaries()[1].call("FUNCTION", "DELETE", "a")
    elif plant == "stray":
        undone.leave_stray("key:7")
    else:
        three.call(*plant)
    r = compare(undone.reference, three)
    assert r.count >= 1 and any(re.search(words, x) for x in r.differences), r


class Undone:
    """What is planted in the cluster goes when the test ends."""

    def __init__(self, cluster, reference):
        self.cluster, self.reference = cluster, reference

    def leave_stray(self, key):
        """A key on a node that has not got its slot."""
        slot, owner = slot_of(key), self.cluster.node_of(key)
        other = next(p for p in self.cluster.primaries() if p is not owner)
        other.call("CLUSTER", "SETSLOT", slot, "IMPORTING", owner.id)
        with other.connect() as c:
            c.call("ASKING")
            c.call("SET", key, "stray")
        other.call("CLUSTER", "SETSLOT", slot, "STABLE")

    def undo(self):
        self.cluster.everywhere("FLUSHALL")
        self.cluster.everywhere("FUNCTION", "FLUSH")
        fill(self.cluster)


@pytest.fixture(scope="module")
def reference():
    with Single() as s:
        fill(s)
        yield s


@pytest.fixture
def undone(three, reference):
    u = Undone(three, reference)
    yield u
    u.undo()
