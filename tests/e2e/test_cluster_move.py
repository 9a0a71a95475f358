# SPDX-License-Identifier: BSD-3-Clause
# Any shape to any shape: one primary, sentinels and clusters of three and five shards, moved while
# an application writes; then both sides are compared completely.
import os
import tempfile
import time

import pytest

from lib.clustercompare import assert_equal
from lib.clusterload import CONSUMERS
from lib.clustermove import ClusterKeyhaul, Shapes, fill
from lib.clusterwriter import ClusterWriter
from lib.mover import keyhaul_binary
from lib.server import find_servers

SOURCES = ("one", "sentinel", "cluster3")
TARGETS = ("one", "sentinel", "cluster3", "cluster5")
PAIRS = ["%s to %s" % (s, t) for s in SOURCES for t in TARGETS]
OTHER_SERVERS = ("valkey-9.1", "redis-8.6")  # where they are: for pairs with a cluster
WRITE_S = 1.5


all_pairs = pytest.mark.parametrize("pair", PAIRS)


@pytest.fixture(scope="module")
def shapes():
    s = Shapes()
    yield s
    s.stop()


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


def both(shapes, pair, server="default"):
    source, target = pair.split(" to ")
    return shapes.get(source, "source", server), shapes.get(target, "target", server)


def untouched(source):
    """keyhaul has written nothing to the source."""
    for p in source.primaries():
        assert p.call("KEYS", "keyhaul:*") == []


def moved_under_writes(shapes, migrate, pair, server="default"):
    source, target = both(shapes, pair, server)
    fill(source)
    cross = 0.0 if source.kind == "cluster" else 0.3
    newer = 0.0 if server == "default" else 0.05
    with ClusterWriter(source, seed=len(pair), cross=cross, newer=newer) as w:
        time.sleep(0.2)
        k = migrate(source, target)
        k.wait_caught_up()
        time.sleep(WRITE_S)
        w.pause()
        k.wait_caught_up()
        r = assert_equal(source, target, unsent=CONSUMERS)
        w.resume()
        time.sleep(0.3)
        counts = w.stop()
    k.finish()
    assert counts["commands"] > 1000 and not counts["unknown"], counts
    assert r.keys > 800
    assert_equal(source, target, unsent=CONSUMERS)
    assert w.problems(source) == []
    assert w.problems(target) == []
    assert k.metrics()["errors"] == 0
    untouched(source)


@all_pairs
def test_under_writes(shapes, migrate, pair):
    """Equal whenever the writer rests, and at the end; nothing lost, nothing doubled."""
    moved_under_writes(shapes, migrate, pair)


@pytest.mark.parametrize("server", OTHER_SERVERS)
@pytest.mark.parametrize("pair", ["one to cluster3", "cluster3 to one", "cluster3 to cluster5"])
def test_other_servers(shapes, migrate, pair, server):
    if server not in find_servers():
        pytest.skip("no server %s here" % server)
    moved_under_writes(shapes, migrate, pair, server)


@all_pairs
def test_until_caught_up(shapes, migrate, pair):
    """Nobody writes: then all is equal, the groups' counters as well."""
    source, target = both(shapes, pair)
    fill(source)
    k = migrate(source, target, "--until", "caught-up").expect(0)
    assert_equal(source, target, entries_read=True)
    m = k.metrics()
    assert m["phase"] == "done" and m["exit_status"] == 0 and m["errors"] == 0
    assert m["keys_written"] == m["keys_read"] > 800
    untouched(source)


@all_pairs
def test_empty(shapes, migrate, pair):
    source, target = both(shapes, pair)
    migrate(source, target, "--until", "caught-up").expect(0)
    assert assert_equal(source, target).keys == 0


@pytest.mark.parametrize("pair", ["cluster3 to cluster5", "cluster3 to one", "one to cluster3"])
def test_named_by_a_replica(shapes, migrate, pair):
    """Any one node will do to name a cluster."""
    source, target = both(shapes, pair)
    fill(source)

    def uri(shape):
        node = shape.replicas_of(1)[0] if shape.kind == "cluster" else shape.primary
        return node.uri()
    migrate(source, target, "--until", "caught-up", source_uri=uri(source),
            target_uri=uri(target)).expect(0)
    assert_equal(source, target, entries_read=True)
