# SPDX-License-Identifier: BSD-3-Clause
# From a server that is no cluster into one: commands whose keys are in several slots, between
# writes to the same keys; keyhaul and nodes of the target killed in the middle.
import os
import time

import pytest

from lib.cluster import Cluster
from lib.clustercompare import assert_equal
from lib.clustermove import ClusterKeyhaul
from lib.crosswriter import CrossLoad, CrossWriter
from lib.mover import keyhaul_binary
from lib.server import find_servers
from lib.shape import Single

OPTIONS = ("--type", "incremental", "--on-conflict", "overwrite")
ROUNDS = int(os.environ.get("KEYHAUL_CROSS_ROUNDS", 4))


class Task:
    """Runs of one task, until one comes to its end."""

    def __init__(self, source, target, things, folder, *options):
        self.source, self.target, self.things = source, target, things
        self.folder, self.options, self.runs = folder, options, 0
        self.start()

    def start(self):
        where = os.path.join(self.folder, "run%d" % self.runs)
        os.mkdir(where)
        self.runs += 1
        self.k = ClusterKeyhaul(self.source, self.target, *OPTIONS, "--task", "cross",
                                "--state-dir", os.path.join(self.folder, "state"), *self.options,
                                folder=where)
        self.things.append(self.k)

    def kill9(self):
        self.k.alive()
        self.k.proc.kill()
        self.k.wait()
        self.start()


@pytest.fixture
def pair(shape, cleanup):
    """pair(...): a server, an empty cluster of three shards, and the task between them."""
    if not os.path.exists(keyhaul_binary()):
        pytest.fail("no %s: run make, or set KEYHAUL" % keyhaul_binary())

    def make(*options, servers=("default", "default"), **kw):
        binary = find_servers()
        source = shape(Single(name="source", binary=binary[servers[0]]))
        target = shape(Cluster(3, 1, name="target", binary=binary[servers[1]], **kw))
        task = Task(source, target, *cleanup, *options)
        task.k.wait_metric(lambda m: m["phase"] == "stream")  # attached: what comes now is moved
        return source, target, task
    return make


def settle(w, task, source, target):
    """The writer rests, both sides are compared."""
    w.rest()
    task.k.wait_caught_up(timeout=120)
    assert_equal(source, target)
    left = [k for p in target.primaries() for k in p.call("KEYS", "keyhaul:tmp:*")]
    assert left == []
    w.go_on()


def test_each_command(pair):
    """One by one, each of them with keys of several slots, each looked at by itself."""
    source, target, task = pair()
    load = CrossLoad(1, functions=False)
    with source.primary.connect() as c:
        for several in load.several:
            for _ in range(6):
                made = [x() for x in load.single for _ in range(4)] + [several() for _ in range(4)]
                c.pipeline(made, raising=False)
            task.k.wait_caught_up()
            assert_equal(source, target)
    task.k.finish()
    assert_equal(source, target)
    assert task.k.metrics()["errors"] == 0


def test_torture(pair):
    source, target, task = pair()
    w = CrossWriter(source.primary, CrossLoad(2, flush=0.0005))
    w.start()
    for _ in range(ROUNDS):
        time.sleep(2)
        settle(w, task, source, target)
    w.stop()
    task.k.finish()
    assert_equal(source, target)
    assert task.k.metrics()["errors"] == 0
    assert w.commands > 1000
    assert not [n for n in os.listdir(os.path.join(task.folder, "state")) if "inputs" in n]


@pytest.mark.parametrize("servers", [
    ("default", "redis-6.0"),  # the target does not know COPY, LMOVE, ZRANGESTORE, PEXPIRETIME
    ("redis-6.0", "default"), ("valkey-9.1", "valkey-9.1"), ("redis-8.6", "valkey-9.1"),
    ("valkey-9.1", "redis-8.6")])
def test_other_servers(pair, servers):
    for name in servers:
        if name not in find_servers():
            pytest.skip("no server %s here" % name)
    source, target, task = pair(servers=servers)
    newer = source.version >= (8, 4, 0)
    functions = all(s.version >= (7, 0, 0) for s in (source, target))
    w = CrossWriter(source.primary, CrossLoad(6, newer, 0.0005, functions,
                                              search=target.version >= (6, 2)))
    w.start()
    for _ in range(2):
        time.sleep(1)
        task.kill9()
        settle(w, task, source, target)
    w.stop()
    task.k.finish()
    assert_equal(source, target)
    assert task.k.metrics()["errors"] == 0


def test_keyhaul_is_killed(pair):
    source, target, task = pair()
    w = CrossWriter(source.primary, CrossLoad(3, flush=0.0005))
    w.start()
    for i in range(ROUNDS * 3):
        time.sleep(0.3 + 0.2 * (i % 3))
        task.kill9()
        if i % 3 == 2:
            settle(w, task, source, target)
    w.stop()
    task.k.finish()
    assert_equal(source, target)
    assert task.k.metrics()["errors"] == 0


@pytest.mark.parametrize("how", ["manual", "kill9", "takeover"])
def test_target_fails_over(pair, how):
    """With kill9 and takeover writes are lost, among them such that others have read."""
    source, target, task = pair()
    w = CrossWriter(source.primary, CrossLoad(4, flush=0.0005))
    w.start()
    for i in range(ROUNDS):
        time.sleep(0.5)
        target.fail_over(i % 3, how, lose_s=0.3)
        settle(w, task, source, target)
    w.stop()
    task.k.finish()
    assert_equal(source, target)
    assert task.k.metrics()["errors"] == 0


def test_all_at_once(pair):
    """keyhaul killed while a shard fails over and loses writes; slots move."""
    source, target, task = pair()
    w = CrossWriter(source.primary, CrossLoad(5, flush=0.0005))
    w.start()
    for i in range(ROUNDS):
        time.sleep(0.3)
        target.fail_over(i % 3, "takeover", lose_s=0.2)
        task.kill9()
        slots = sorted(target.slots_of(i % 3))[:200]
        target.reshard(slots, i % 3, (i + 1) % 3)
        task.kill9()
        settle(w, task, source, target)
    w.stop()
    task.k.finish()
    assert_equal(source, target)
    assert task.k.metrics()["errors"] == 0
