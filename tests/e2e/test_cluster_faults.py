# SPDX-License-Identifier: BSD-3-Clause
# What rounds of faults between shapes (chaos/) have found, each by itself.
import signal

import pytest

from lib.cluster import Cluster
from lib.clustercompare import assert_equal
from lib.clustermove import ClusterKeyhaul
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
