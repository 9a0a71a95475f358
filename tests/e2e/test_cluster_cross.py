# SPDX-License-Identifier: BSD-3-Clause
# From a server that is no cluster into one: commands whose keys are in several slots, between
# writes to the same keys; keyhaul and nodes of the target killed in the middle.
import os
import subprocess
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


class CrossKeyhaul(ClusterKeyhaul):
    spool = None

    def ends(self, target_uri):
        return ("--target", self.target.uri(), "--spool-dir", self.spool)


class Task:
    """Runs of one task, until one comes to its end. Now and then one whose spool is elsewhere."""

    def __init__(self, source, target, things, folder, *options):
        self.source, self.target, self.things = source, target, things
        self.folder, self.options, self.runs = folder, options, 0
        self.start()

    def start(self):
        where = os.path.join(self.folder, "run%d" % self.runs)
        os.mkdir(where)
        self.runs += 1
        CrossKeyhaul.spool = os.path.join(where if self.runs % 4 == 3 else self.folder, "spool")
        self.k = CrossKeyhaul(self.source, self.target, *OPTIONS, "--task", "cross",
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


def inputs_of(task):
    """Files of what commands have read."""
    return [n for _, _, names in os.walk(os.path.join(task.folder, "state")) for n in names
            if n.startswith("inputs-")]


def settle(w, task, source, target):
    """The writer rests, both sides are compared."""
    w.rest()
    task.k.wait_caught_up(timeout=120)
    assert_equal(source, target)
    assert inputs_of(task)
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
    task.k.wait_caught_up()
    subprocess.run([keyhaul_binary(), "finish", "cross", "--state-dir",
                    os.path.join(task.folder, "state")], check=True, timeout=60)
    task.k.expect(0)
    assert_equal(source, target)
    assert task.k.metrics()["errors"] == 0
    assert [k for p in target.primaries() for k in p.call("KEYS", "keyhaul:*")] == []
    assert w.commands > 1000
    assert task.k.metrics()["commands_carried"] > 50
    assert inputs_of(task) == []


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


def test_large_values(pair):
    """What is read goes through files: no more memory than for anything else."""
    source, target, task = pair()
    with source.primary.connect(timeout=60) as c:
        c.call("SET", "k:0", "x" * (90 << 20))
        for i in range(0, 200_000, 5000):
            c.call("SADD", "s:0", *range(i, i + 5000))
        c.call("SADD", "s:1", 5, 7, "other")
        c.call("RPUSH", "l:0", "y" * (40 << 20), "last")
        c.pipeline([("COPY", "k:0", "k:1"), ("SUNIONSTORE", "s:2", "s:0", "s:1"),
                    ("SINTERSTORE", "s:3", "s:0", "s:1"), ("RENAME", "k:1", "k:5"),
                    ("LMOVE", "l:0", "l:1", "LEFT", "RIGHT"), ("RPOPLPUSH", "l:0", "l:3"),
                    ("BITOP", "NOT", "b:1", "k:0")])
    task.k.finish(timeout=120)
    assert_equal(source, target)
    assert task.k.metrics()["errors"] == 0
    assert task.k.peak_rss_mb() < 100


def test_what_cannot_be_brought(pair):
    """By name, and it goes on where it is to go on."""
    source, target, task = pair("--on-error", "continue")
    with source.primary.connect() as c:
        c.pipeline([("RPUSH", "l:0", 3, 1, 2), ("SET", "w_1", 9), ("SET", "w_2", 8),
                    ("SORT", "l:0", "BY", "w_*", "STORE", "l:1"), ("DEL", "l:1"),
                    ("SORT", "l:0", "BY", "nosort", "GET", "#", "STORE", "l:2"),
                    ("SORT", "l:0", "LIMIT", 0, 2, "STORE", "l:3")])
    task.k.wait_caught_up()
    left = {"l:2"} if target.call("LRANGE", "l:2", 0, -1) == [] else set()
    source.call("DEL", *left) if left else None
    task.k.wait_caught_up()
    assert_equal(source, target)
    assert task.k.terminate() == 4
    assert task.k.metrics()["errors"] == 1 + len(left)
    assert "SORT" in task.k.stderr and "several slots" in task.k.stderr


def test_flushes(pair):
    """Of a source with several databases only what is moved is emptied; other tasks' checkpoints
    go, ours does not."""
    source, target, task = pair()
    with source.primary.connect() as c:
        for i in range(30):
            c.pipeline([("SET", "k:%d" % n, n) for n in range(200)])
            c.call(*(("FLUSHALL",), ("FLUSHDB", "ASYNC"), ("FLUSHDB", "SYNC"))[i % 3])
            c.pipeline([("INCR", "n:%d" % n) for n in range(50)])
            if i % 10 == 5:
                task.kill9()
    task.k.wait_caught_up()
    assert_equal(source, target)
    task.kill9()
    task.k.wait_caught_up()
    task.k.finish()
    assert_equal(source, target)
    assert len(source.call("KEYS", "*")) == 50
