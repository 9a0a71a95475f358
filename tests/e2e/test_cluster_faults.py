# SPDX-License-Identifier: BSD-3-Clause
# What rounds of faults between shapes (chaos/) have found, each by itself.
import glob
import json
import os
import signal
import time

import pytest

from lib.cluster import Cluster
from lib.clustercompare import assert_equal
from lib.clustermove import ClusterKeyhaul
from lib.clusterworld import OneSide
from lib.resp import wait_for
from lib.route import SLOTS


@pytest.fixture
def migrate(cleanup):
    def start(source, target, *options):
        k = ClusterKeyhaul(source, target, *options)
        cleanup[0].append(k)
        return k
    return start


# So that each shard of a source with even ones writes to each of the target.
ACROSS = [[s for s in range(SLOTS) if s // 1000 % 3 == i] for i in range(3)]


def put(shape, value, count=300):
    with shape.router() as r:
        r.feed(("SET", "key:%d" % i, value) for i in range(count))


@pytest.mark.parametrize("shard", range(3))
def test_flushed_when_a_primary_of_the_target_has_just_changed(shape, migrate, shard):
    """The first that keyhaul asks it for is to read its checkpoint, for the FLUSH of a shard."""
    source = shape(Cluster(3, 0, name="source"))
    target = shape(Cluster(3, 1, name="target", slots=ACROSS))
    put(source, "before")
    k = migrate(source, target)
    k.wait_caught_up()
    k.proc.send_signal(signal.SIGSTOP)
    try:
        target.fail_over(shard)
        source.everywhere("FLUSHALL")
        put(source, "after", 100)
    finally:
        k.proc.send_signal(signal.SIGCONT)
    k.wait_caught_up(timeout=30)
    k.finish()
    assert_equal(source, target)


@pytest.fixture
def forked(cleanup, shape):
    """A source with a replica, a clustered target, the options of a task between them."""
    things, folder = cleanup
    source = OneSide("source", folder, {"persistence": "rdb", "replicas": 1}, None,
                     {"repl-ping-replica-period": 60})
    things.append(source)
    target = shape(Cluster(3, 0, name="target"))
    return source, target, ("--task", "t", "--state-dir", os.path.join(folder, "state"),
                            "--io-timeout", "2s")


def instead(thing, name, *steps):
    """Each step, in place of a method of a thing; None stands for the method itself."""
    method = getattr(thing, name)
    setattr(thing, name, lambda *args: [(step or (lambda: method(*args)))() for step in steps])


def test_source_fails_over_and_the_spool_is_gone(forked, migrate, cleanup):
    """Slots have more than the least that all have: what the source lost, some of them have."""
    source, target, options = forked
    put(source, "x", 100)
    k = migrate(source, target, *options)
    k.wait_caught_up()
    hangs = target.primaries()[2]

    def write():
        hangs.pause()
        with source.primary.connect() as c:
            c.feed(("APPEND", "key:%d" % i, "lost") for i in range(100))
    instead(source.links[0], "stall", None, write)
    instead(source.primary, "kill", lambda: k.terminate(sig=signal.SIGKILL), None)
    assert source.fail_over(lose_s=1.0)
    hangs.cont()
    assert {len(source.call("GET", "key:%d" % i)) for i in range(100)} == {1}
    assert {len(target.call("GET", "key:%d" % i)) for i in range(100)} >= {5}
    for seg in glob.glob(os.path.join(cleanup[1], "state", "**", "*.seg"), recursive=True):
        os.unlink(seg)
    k = migrate(source, target, *options)
    k.wait_caught_up()
    k.finish()
    assert_equal(source, target)


def test_killed_before_the_target_knows_of_a_new_snapshot(forked, migrate, cleanup):
    """Its folder says that the stream cannot be gone on with, the checkpoint does not yet."""
    source, target, options = forked
    put(source, "x", 100)
    k = migrate(source, target, *options)
    k.wait_caught_up()
    k.terminate(sig=signal.SIGKILL)
    path = os.path.join(cleanup[1], "state", "t", "state.json")
    with open(path) as f:
        state = json.load(f)
    assert state["phase"] == "stream"
    with open(path, "w") as f:
        json.dump({**state, "phase": "loading", "spool_valid": False}, f)
    k = migrate(source, target, *options)
    k.wait_caught_up()
    k.finish()
    assert k.metrics()["snapshots"] == 2, k.stderr
    assert_equal(source, target)


def test_target_hangs_while_a_snapshot_is_on_its_way(server, proxy, keyhaul):
    """The connection that tells how far the source is must be there afterwards too."""
    source = server("source", config={"repl-backlog-size": "16kb",
                                      "repl-ping-replica-period": 1})
    target = server("target")
    p = proxy(source)
    k = keyhaul(source, target, "--io-timeout", "2s", source_uri=p.uri())
    wait_for(lambda: k.phase() == "stream", 30)
    target.pause()
    try:
        p.refuse = True
        p.cut()
        with source.connect() as c:
            c.feed(("SET", "key:%d" % i, "x" * 1000) for i in range(100))
        p.refuse = False
        time.sleep(6)
    finally:
        target.cont()
    wait_for(lambda: k.phase() == "stream" and target.call("DBSIZE") > 100, 30)
    k.finish()
    assert_equal(source, target)
