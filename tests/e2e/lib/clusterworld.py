# SPDX-License-Identifier: BSD-3-Clause
# The two sides of a round of the chaos suite for clusters: one primary, or shards with replicas,
# each node behind a proxy of its own for the mover; and a reader of the target that never stops.
import random
import threading

from .clusterload import SUM
from .cluster import Cluster
from .resp import Closed, ReplyError
from .shape import Shape
from .world import PERSISTENCE, PREFIX, Side

CLUSTER_PERSISTENCE = {**PERSISTENCE, "none": {}}
SLOW_SLOTS = 300  # Valkey, in the classic way, tells replicas first, and waits for them, with each CLUSTER SETSLOT
SHARDS_MAX = 8  # with those that come meanwhile


class OneSide(Side, Shape):
    """One primary, perhaps with a replica, as the other chaos suite has it."""
    kind = "single"

    def __init__(self, name, folder, world, binary, config):
        super().__init__(name, folder, world["persistence"], world["replicas"] > 0, config, binary)

    @property
    def shape(self):
        return self

    def primaries(self):
        return [self.primary]


class ClusterSide:
    """A cluster with the face of a Side, where faults of links need it."""
    kind = "cluster"

    def __init__(self, name, folder, world, binary, config):
        self.name = name
        self.moves = 0         # slots have been on their way so often: odd, they are
        self.proxied = world["proxies"]
        self.shape = Cluster(
            world["shards"], world["replicas"], binary, name, proxies=world["proxies"],
            config={**CLUSTER_PERSISTENCE[world["persistence"]], **config}, keep_log=folder)
        self.shape.start()
        self.named = self.shape.seeds()
        self.count = world["shards"]

    @property
    def proxies(self):
        return [n.proxy for n in self.shape.nodes if n.proxy]

    def uri(self):
        return self.shape.uri()

    def node(self, number):
        nodes = self.shape.nodes
        return nodes[number % len(nodes)]

    def shard(self, number):
        return self.shape.shards[number % len(self.shape.shards)]

    def primaries(self, number=None):
        """All of them, or one."""
        return self.shape.primaries() if number is None else [
            self.shape.primary_of(self.shard(number))]

    def reshard(self, a, b, count, how, batch, back):
        """`count` slots of the one shard to the other, and back."""
        a, b = self.shard(a), self.shard(b)
        slots = sorted(self.shape.slots_of(a))[:count]
        if a is b or not slots:
            return False
        with self.moving():
            self.shape.reshard(slots, a, b, self.way(how, len(slots)), batch)
            if back:
                self.shape.reshard(slots, b, a, self.way(how, len(slots)), batch)
        return True

    def way(self, how, count):
        """`how`, if the server can, and if it does not take minutes."""
        if not self.shape.has_atomic():
            return "classic"
        return "atomic" if count > SLOW_SLOTS else how

    def moving(self):
        return Moving(self)

    def grow(self, slots, how, replica):
        """One shard more, with so many slots of the others."""
        self.shape.add_node()
        new = len(self.shape.shards) - 1
        if replica:
            self.shape.add_node(new)
        share = -(-slots // new)
        with self.moving():
            for i in range(new):
                part = sorted(self.shape.slots_of(i))[:share]
                self.shape.reshard(part, i, new, self.way(how, slots))

    def replace(self, number, primary):
        """A new node for an old one, without any slot on its way: a replica, or the primary, which
        hands over first."""
        shard = self.shard(number)
        was = self.shape.primary_of(shard)
        old = was if primary else next((n for n in shard.nodes if n is not was), None)
        if old is None or not self.lets_go([old]):
            return False
        new = self.shape.add_node(shard)
        if primary:
            self.shape.fail_over(shard, "manual", to=new)
        self.shape.remove_node(old)
        return True

    def lets_go(self, nodes):
        """False: the mover would know none of the nodes by which it knows the cluster."""
        left = [n for n in self.named if n not in nodes]
        if left:
            self.named = left
        return bool(left)

    def shrink(self, number, how):
        """One shard less, as long as there are more than in the beginning. One of the nodes by
        which the mover knows the cluster stays."""
        shards = self.shape.shards
        for i in range(len(shards)):
            shard = shards[(number + i) % len(shards)]
            if len(shards) > self.count and self.lets_go(shard.nodes):
                with self.moving():
                    old = self.shape.primary_of(shard)
                    self.shape.remove_node(old, self.way(how, len(self.shape.slots_of(shard))))
                return True
        return False

    def heal(self):
        for p in self.proxies:
            p.refuse = False
            p.bytes_per_s = p.delay_s = 0
            p.resume()
            p.release()
        for n in self.shape.nodes:
            n.cont()
        self.shape.wait_ok()

    def close(self):
        self.shape.stop()


class Moving:
    """While slots are on their way: a slot's keys may be on two nodes."""

    def __init__(self, side):
        self.side = side

    def __enter__(self):
        self.side.moves += 1

    def __exit__(self, *exc):
        self.side.moves += 1


SIDES = {"one": OneSide, "cluster": ClusterSide}


class Accounts(threading.Thread):
    """Asks the target without pause for the accounts of a tag: together they are 0 whenever no
    snapshot is being loaded, or a transaction of the source was torn apart. What a slot has while
    it moves, or while its node is in trouble, does not count."""

    def __init__(self, side, tags, task="chaos"):
        super().__init__(daemon=True)
        self.side, self.tags = side, tags
        self.keys = [PREFIX + task.encode()] + [PREFIX + b"%s/%d" % (task.encode(), i)
                                                for i in range(SHARDS_MAX)]
        self.stopping = threading.Event()
        self.rng = random.Random(1)
        self.reads, self.wrong = 0, []

    def run(self):
        while not self.stopping.is_set():
            try:
                with self.side.shape.router(timeout=2) as r:
                    while not self.stopping.is_set():
                        self.look(r)
                        self.stopping.wait(0.01)
            except (OSError, ReplyError, Closed, TimeoutError, ValueError):
                self.stopping.wait(0.1)

    def moves(self):
        return getattr(self.side, "moves", 0)

    def streaming(self, router):
        """The snapshots that the checkpoints name, of which all are loaded; none: some are not."""
        told = [v.split() for v in router.calls([("GET", k) for k in self.keys]) if v]
        return [w[6:] for w in told] if all(w[1] == b"stream" for w in told) else []

    def look(self, router):
        tag, moves = self.rng.choice(self.tags), self.moves()
        before = self.streaming(router)
        if not before or moves % 2:
            self.stopping.wait(0.05)
            return
        total = router.call("EVAL_RO", SUM, 1, "{%s}acct:0" % tag, "{%s}acct:" % tag)
        if self.streaming(router) != before or self.moves() != moves:
            return
        self.reads += 1
        if total and len(self.wrong) < 10:
            self.wrong.append("accounts of {%s} sum up to %d" % (tag, total))

    def check(self, at_least=1):
        """Ends it; raises what it has seen."""
        self.close()
        assert not self.wrong, "a reader of the target saw: %s" % "; ".join(self.wrong)
        assert self.reads >= at_least, "only %d readings of the target" % self.reads

    def close(self):
        self.stopping.set()
        if self.is_alive():
            self.join(60)
