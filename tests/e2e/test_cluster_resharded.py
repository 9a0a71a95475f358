# SPDX-License-Identifier: BSD-3-Clause
# A clustered source whose slots move while it is migrated: the task ends and says so, and the next
# run copies again what has moved. Nothing is lost without a word.
import tempfile

import pytest

from lib.cluster import Cluster
from lib.clustercompare import assert_equal
from lib.clusterload import CONSUMERS
from lib.clustermove import ClusterKeyhaul, fill
from lib.clusterwriter import ClusterWriter
from lib.server import Server
from lib.shape import Single


@pytest.fixture
def sides(shape, cleanup):
    return shape(Cluster(shards=3, replicas=0)), shape(Single())


def test_ends_and_goes_on(sides, cleanup):
    source, target = sides
    things, folder = cleanup
    state = tempfile.mkdtemp(dir=folder)
    fill(source)

    def migrate(*options):
        k = ClusterKeyhaul(source, target, *options, folder=state)
        things.append(k)
        return k

    with ClusterWriter(source, seed=4) as writer:
        k = migrate()
        k.wait_caught_up()
        source.reshard(range(0, 400), 0, 1)
        k.expect(1, "slots have moved to other shards", "run the same command again")
        k = migrate()
        k.wait_caught_up()
        writer.stop()
        k.wait_caught_up()
    k.finish()
    assert_equal(source, target, unsent=CONSUMERS)
