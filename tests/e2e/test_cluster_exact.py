# SPDX-License-Identifier: BSD-3-Clause
# Exactly once into a cluster: keyhaul killed five times under INCR and RPUSH, a shard of the target
# failing over in between, slots on their way; not one write more or less.
import random
import threading
import time

import pytest

from lib.cluster import Cluster
from lib.clustercompare import assert_equal
from lib.clustermove import wait_caught_up
from lib.clusterworld import OneSide
from lib.resp import encode, wait_for
from lib.route import tag_of
from lib.shape import Single
from lib.world import IO_TIMEOUT_S, Task

KEYS = 60       # of each kind, in as many slots
WRITES = 60_000
RATE = 6000
TAGS = [tag_of(s) for s in range(0, 16384, 16384 // KEYS)][:KEYS]


class Counted(threading.Thread):
    """INCR and RPUSH in turn, to each tag in turn, in order over one connection, at a rate."""

    def __init__(self, source):
        super().__init__(daemon=True)
        self.source = source
        self.start()

    def commands(self, first, end):
        for i in range(first, end):
            tag = TAGS[i // 2 % KEYS]
            yield ("INCR", "{%s}n" % tag) if i % 2 else ("RPUSH", "{%s}l" % tag, i)

    def run(self):
        begin, chunk = time.monotonic(), 200
        with self.source.primary.connect() as c:
            for i in range(0, WRITES, chunk):
                c.send(b"".join(encode(x) for x in self.commands(i, i + chunk)))
                for _ in range(chunk):
                    c.read()
                time.sleep(max(0, (i + chunk) / RATE - (time.monotonic() - begin)))

    def assert_exact(self, target):
        """All of them are there, once and in order."""
        assert not self.is_alive()
        with target.router() as r:
            counts = [int(n) for n in r.calls([("GET", "{%s}n" % t) for t in TAGS])]
            lists = r.calls([("LRANGE", "{%s}l" % t, 0, -1) for t in TAGS])
        assert (sum(counts), sum(map(len, lists))) == (WRITES // 2, WRITES // 2)
        assert set(counts) == {WRITES // 2 // KEYS}
        for at, found in enumerate(lists):
            assert found == [b"%d" % i for i in range(2 * at, WRITES, 2 * KEYS)]


def fail_over(target, number, how):
    """Without what the shard was told last."""
    target.fail_over(number % 3, how, lose_s=0.4)


def reshard(target, number, how):
    a, b = number % 3, (number + 1) % 3
    slots = sorted(target.slots_of(a))[:200]
    target.reshard(slots, a, b)
    target.reshard(slots, b, a)


@pytest.fixture
def both(cleanup):
    """A source and a cluster; things that are stopped."""
    things, folder = cleanup
    source = OneSide("source", folder, {"persistence": "rdb", "replicas": 0}, None, {})
    things.append(source)
    target = Cluster(3, 1, name="target", keep_log=folder, config={"appendonly": "yes"})
    things.append(target)
    return source, target.start(), things, folder


@pytest.mark.parametrize("meanwhile", [
    pytest.param([], id="alone"),
    pytest.param([(1, fail_over, "takeover"), (3, fail_over, "kill9")], id="failover"),
    pytest.param([(0, reshard, ""), (3, fail_over, "manual")], id="resharding"),
])
def test_five_kills(both, meanwhile):
    source, target, things, folder = both
    t = Task(source.uri(), target.uri(), folder, "--io-timeout", "%ds" % IO_TIMEOUT_S,
             "--connect-timeout", "2s", "--retry-time", "5m")
    things.append(t)
    t.start()
    wait_caught_up(source, target, alive=t.check)
    load = Counted(source)
    rng = random.Random(5)
    for i in range(5):
        time.sleep(rng.uniform(0.8, 1.6))
        t.kill()
        t.start()
        for at, what, how in meanwhile:
            if at == i:
                time.sleep(rng.uniform(0.1, 0.8))
                what(target, i, how)
    load.join(60)
    wait_caught_up(source, target, alive=t.check)
    assert t.terminate() == 0, t.run.said
    load.assert_exact(target)
    assert_equal(source, target)
    assert t.metric("snapshots") == 1


def test_transaction_that_fell_apart(keyhaul, shape, tmp_path):
    """MULTI and what came next were refused by a node, the rest of the slot's transaction was not.
    What is missing is behind the slot's mark, and is brought all the same."""
    source, target = shape(Single()), shape(Cluster(3, 0, proxies=True))
    k = keyhaul(source, target, "--state-dir", tmp_path, "--task", "shop",
                target_uri=target.nodes[0].proxy.uri())
    wait_caught_up(source, target, alive=k.alive)
    multi = b"MULTI\r\n*2\r\n$4\r\nINCR\r\n"
    torn = multi.replace(b"MULTI", b"MULTX").replace(b"INCR", b"INCX")
    proxies = [n.proxy for n in target.nodes]
    for p in proxies:
        p.rewrite["up"] = (multi, torn)
    with source.primary.connect() as c:
        c.pipeline([("INCR", "{a}lost"), ("INCR", "{a}done"), ("RPUSH", "{a}list", 1, 2)])
    wait_for(lambda: not all(p.rewrite for p in proxies))
    wait_caught_up(source, target, alive=k.alive)
    assert "MULTI was refused" in k.said
    k.wait_metric(lambda m: m["snapshots"] == 2)
    assert k.terminate() == 0, k.said
    assert_equal(source, target)
