# SPDX-License-Identifier: BSD-3-Clause
# Moves between shapes: when is the target caught up, told by nobody but the two sides.
import os

from .mover import CANARY, Keyhaul
from .resp import Closed, ReplyError, wait_for
from .route import SLOTS, tag_of

ALL = frozenset(range(SLOTS))


def slots_by_primary(shape):
    if shape.kind != "cluster":
        return [ALL]
    return [s for s in (p.myself().slots for p in shape.primaries()) if s]


def canaries(source, target):
    """A key for each way that changes take: from each primary of the source to each of the
    target."""
    ways = [a & b for a in slots_by_primary(source) for b in slots_by_primary(target)]
    return ["%s:{%s}" % (CANARY, tag_of(min(w))) for w in ways if w]


def wait_caught_up(source, target, timeout=60, alive=None):
    """Until every write the source has now taken is on the target: keys set and deleted last have
    come and gone there."""
    keys, mark = canaries(source, target), os.urandom(8).hex()
    with source.router() as s, target.router(timeout=120) as t:
        def see(want):
            if alive:
                alive()
            try:
                return t.calls([("GET", k) for k in keys]) == [want] * len(keys)
            except (ReplyError, Closed):
                return False

        s.calls([("SET", k, mark) for k in keys])
        wait_for(lambda: see(mark.encode()), timeout)
        s.calls([("DEL", k) for k in keys])
        wait_for(lambda: see(None), timeout)


class ClusterKeyhaul(Keyhaul):
    """`keyhaul migrate` between shapes."""

    def wait_caught_up(self, timeout=60, **kw):
        wait_caught_up(self.source, self.target, timeout=timeout, alive=self.alive, **kw)
