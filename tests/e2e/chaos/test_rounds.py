# SPDX-License-Identifier: BSD-3-Clause
# Rounds of faults drawn from a seed; afterwards both sides are equal. `make chaos SEED=n ROUNDS=n`.
import os

import pytest

from lib.chaos import Round

SEED = int(os.environ.get("KEYHAUL_CHAOS_SEED") or 1)
ROUNDS = int(os.environ.get("KEYHAUL_CHAOS_ROUNDS") or 2)
SECONDS = float(os.environ.get("KEYHAUL_CHAOS_SECONDS") or 10)
# What the mover is known not to do: "short" (deadlines), "oom,disk" (faults), "target:failover".
WITHOUT = tuple(tuple(w.split(":")) if ":" in w else w
                for w in os.environ.get("KEYHAUL_CHAOS_WITHOUT", "").split(",") if w)


@pytest.mark.parametrize("seed", range(SEED, SEED + ROUNDS))
def test_round(seed):
    fixed = {"without": WITHOUT}
    if "short" in WITHOUT:
        fixed["expiry"] = "long"
    if "foreign" in WITHOUT:
        fixed["foreign"] = False
    print("\nseed %d: %s" % (seed, Round(seed, SECONDS, **fixed).run()))
