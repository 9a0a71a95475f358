# SPDX-License-Identifier: BSD-3-Clause
# Rounds of faults between shapes, drawn from a seed; afterwards both sides are equal, and the
# ledger is right. `make chaos-cluster SEED=n ROUNDS=n SHAPES="one to cluster3"`.
import os

import pytest

from lib.clusterchaos import NOT_YET, PAIRS, ClusterRound, with_replicas
from lib.clusterfaults import named

SEED = int(os.environ.get("KEYHAUL_CHAOS_SEED") or 1)
ROUNDS = int(os.environ.get("KEYHAUL_CHAOS_ROUNDS") or 2)
SECONDS = float(os.environ.get("KEYHAUL_CHAOS_SECONDS") or 15)
# Of PAIRS, separated by commas, also those that keyhaul cannot do yet; none: those that it can.
SHAPES = [s.strip() for s in os.environ.get("KEYHAUL_CHAOS_SHAPES", "").split(",") if s.strip()]
# Besides what NOT_YET says: "short" (deadlines), "functions", "oom,disk" (faults of any side),
# "target:failover", "cluster:failover".
WITHOUT = tuple(tuple(w.split(":")) if ":" in w else w
                for w in os.environ.get("KEYHAUL_CHAOS_WITHOUT", "").split(",") if w)
ALL = os.environ.get("KEYHAUL_CHAOS_ALL")  # also what NOT_YET says
CAN = [p for p in PAIRS if "all" not in NOT_YET.get(p, ())]


def without(pair):
    return (() if ALL else tuple(w for w in NOT_YET.get(pair, ()) if w != "all")) + WITHOUT


@pytest.mark.parametrize("pair", SHAPES or CAN)
def test_named(pair):
    """All that is to be survived, one after the other, whatever is drawn."""
    r = ClusterRound(SEED, SECONDS, pair, without=without(pair), lossy=True, small_disk=False,
                     at_once=False, expiry="long", **with_replicas(pair))
    r.lanes = named(r.world, r.world["without"])
    said = r.run()
    print("\nnamed, %s: %s" % (pair, said))
    missed = {f.name() for fs in r.lanes.values() for f in fs} - set(said["played"])
    assert not missed, "not played: %s" % missed


@pytest.mark.parametrize("seed", range(SEED, SEED + ROUNDS))
@pytest.mark.parametrize("pair", SHAPES or CAN)
def test_round(seed, pair):
    print("\nseed %d, %s: %s" % (seed, pair, ClusterRound(seed, SECONDS, pair,
                                                          without=without(pair)).run()))
