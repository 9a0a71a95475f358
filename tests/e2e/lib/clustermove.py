# SPDX-License-Identifier: BSD-3-Clause
# Moves between shapes: the data they begin with, and when the target is caught up, told by nobody
# but the two sides.
import json
import os
import random

from .dataset import FUNCTION, FUNCTION_2, Sizes, big_keys, everything, small_keys
from .mover import CANARY, Keyhaul
from .cluster import Cluster
from .resp import Closed, ReplyError, wait_for
from .route import SLOTS, tag_of
from .server import find_servers
from .shape import SentinelSet, Single

ALL = frozenset(range(SLOTS))
SIZES = Sizes(small_keys=800, string_bytes=2 << 20, hash_fields=3000, list_items=3000,
              set_members=3000, zset_members=3000, stream_entries=2000, element_bytes=5000)
SHAPES = {
    "one": Single,
    "sentinel": SentinelSet,
    "cluster3": lambda **kw: Cluster(3, 1, **kw),
    "cluster5": lambda **kw: Cluster(5, 1, **kw),
}


class Shapes:
    """Running shapes by name, side and server, kept between tests, emptied for each."""

    def __init__(self):
        self.up = {}

    def get(self, name, side, server="default"):
        at = name, side, server
        if at not in self.up:
            self.up[at] = SHAPES[name](binary=find_servers()[server], name="%s-%s" % (side, name))
            self.up[at].start()
        shape = self.up[at]
        shape.everywhere("FLUSHALL")
        if shape.version >= (7, 0, 0):
            shape.everywhere("FUNCTION", "FLUSH")
        return shape

    def stop(self):
        for s in self.up.values():
            s.stop()


def fill(shape, seed=1):
    """A key of every kind, wherever it belongs; functions on every primary."""
    with shape.router(timeout=300) as r:
        r.feed(everything(shape, SIZES, seed))
        r.feed(small_keys(SIZES.small_keys, random.Random(seed), 0))
        big_keys(r, SIZES)
    if shape.version >= (7, 0, 0):
        for code in FUNCTION, FUNCTION_2:
            shape.everywhere("FUNCTION", "LOAD", "REPLACE", code)


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


def wait_settled(folder, timeout=60, alive=None):
    """Until no slot that has moved on the source is still to be settled, as the task's folder says:
    canaries are of a few slots only."""
    def settled():
        """no slot is left to be settled"""
        if alive:
            alive()
        try:
            with open(os.path.join(folder, "shards.json")) as f:
                return all(s["settle"] == "" for s in json.load(f)["shards"])
        except FileNotFoundError:
            return True  # the source is no cluster
    wait_for(settled, timeout)


class ClusterKeyhaul(Keyhaul):
    """`keyhaul migrate` between shapes."""

    def wait_caught_up(self, timeout=60, **kw):
        wait_caught_up(self.source, self.target, timeout=timeout, alive=self.alive, **kw)
