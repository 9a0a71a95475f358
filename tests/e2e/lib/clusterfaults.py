# SPDX-License-Identifier: BSD-3-Clause
# The faults of the chaos suite for clusters: what may happen to a side of either shape, besides the
# faults of links and of the mover, which are those of faults.py; a seeded schedule of them.
import random
import time

from .faults import LINK, LONG, Actor, Fault, outage, seconds
from .faults import TABLE as FAULTS_OF_ONE
from .resp import ReplyError, encode, wait_for
from .shape import in_sync

MANY = 2000  # slots


def any_of(rng):
    """A number for a shard or a node: of so many as there are then."""
    return rng.randrange(60)


def one_or_all(rng):
    return None if rng.random() < 0.4 else any_of(rng)


def lost(rng):
    return rng.choice((0.0, seconds(rng, 0.05, 1.0)))


def way(rng):
    return rng.choice(("classic", "atomic"))


# kind -> (weight, how its arguments are drawn, seconds that it takes besides those drawn)
OF_CLUSTER = {
    "failover": (5, lambda r: {"shard": any_of(r), "how": r.choice(("manual", "kill9", "takeover")),
                               "lose": lost(r), "gap": seconds(r, 0, 1)}, 3),
    "crash": (3, lambda r: {"node": any_of(r), "down": outage(r)}, 1),
    "stop": (2, lambda r: {"node": any_of(r), "for": outage(r)}, 0.5),
    "older": (3, lambda r: {"shard": any_of(r), "lose": seconds(r, 0.1, 1.5),
                            "down": seconds(r, 0, 0.5)}, 1),
    "reshard": (6, lambda r: {"from": any_of(r), "to": any_of(r), "how": way(r),
                              "slots": r.choice((200, 500, MANY)), "back": r.random() < 0.5,
                              "batch": r.choice((1, 20))}, 3),
    "grow": (3, lambda r: {"slots": r.choice((200, 600)), "how": way(r), "shard": any_of(r),
                           "replica": r.random() < 0.5, "back": r.random() < 0.6}, 4),
    "shrink": (1, lambda r: {"shard": any_of(r), "how": way(r)}, 3),
    "replace": (2, lambda r: {"shard": any_of(r), "primary": r.random() < 0.6}, 4),
    "both": (2, lambda r: {"shard": any_of(r), "how": r.choice(("manual", "kill9")),
                           "slots": 200, "after": seconds(r, 0.1, 1)}, 4),
}
LINK_OF_CLUSTER = {kind: (w, lambda r, draw=draw: {**draw(r), "node": one_or_all(r)}, 0)
                   for kind, (w, draw) in LINK.items()}
SOURCE = {
    "drop": (2, lambda r: {"node": one_or_all(r)}, 0),
    "backlog": (1, lambda r: {"down": seconds(r, 0.3, 1.5)}, 0),
    "flush": (1, lambda r: {"how": r.choice(("FLUSHALL", "FLUSHDB"))}, 0),
}
TARGET = {
    "oom": (2, lambda r: {"node": one_or_all(r), "for": seconds(r, 0.2, 3)}, 0),
    "noreplicas": (1, lambda r: {"node": one_or_all(r), "for": seconds(r, 0.2, 2)}, 0),
    "busy": (1, lambda r: {"node": any_of(r), "for": r.randrange(1, 3)}, 1),
    "disk": (4, lambda r: {"for": seconds(r, 1, 3)}, 1),
}
NOT_FOR_CLUSTERS = ("flushall", "flushdb", "swapdb")  # of the table for one


def of_one(lane):
    return {kind: (w, draw, 0.3) for kind, (w, draw) in FAULTS_OF_ONE[lane].items()
            if kind not in NOT_FOR_CLUSTERS}


TABLES = {
    ("mover", None): of_one("mover"),
    ("source", "one"): {**of_one("source"), "flush": SOURCE["flush"]},
    ("target", "one"): of_one("target"),
    ("source", "cluster"): {**LINK_OF_CLUSTER, **OF_CLUSTER, **SOURCE},
    ("target", "cluster"): {**LINK_OF_CLUSTER, **OF_CLUSTER, **TARGET},
}
GAPS = {"mover": (0.3, 5), "source": (0.3, 3), "target": (0.3, 3)}
NEEDS_PROXIES = (*LINK, "backlog")


def at(lane, kind, **args):
    return Fault(lane, kind, 0.5, args)


# One of each that is to be in every suite, whatever the seed: failovers, slots back and forth, a
# shard and a node that come and go. ("atomic": where the server can, else classic.)
NAMED = {
    ("source", "one"): (at("source", "failover", lose=0.3, gap=0.2),
                        at("source", "failover", lose=0.0, gap=0.0)),
    ("source", "cluster"): (
        at("source", "failover", shard=0, how="manual", lose=0.0, gap=0.0),
        at("source", "failover", shard=1, how="kill9", lose=0.3, gap=0.2),
        at("source", "replace", shard=2, primary=True),
        at("source", "reshard", how="atomic", slots=MANY, back=True, batch=20,
           **{"from": 0, "to": 1})),
    ("target", "one"): (at("target", "failover", lose=0.3, gap=0.2), at("target", "crash", down=0.3),
                        at("target", "failover", lose=0.0, gap=0.0)),
    ("target", "cluster"): (
        at("target", "reshard", how="atomic", slots=MANY, back=True, batch=20,
           **{"from": 0, "to": 1}),
        at("target", "failover", shard=0, how="manual", lose=0.0, gap=0.0),
        at("target", "grow", slots=600, how="classic", shard=3, replica=False, back=True),
        at("target", "failover", shard=1, how="kill9", lose=0.3, gap=0.2),
        at("target", "replace", shard=2, primary=True)),
    ("mover", None): (Fault("mover", "kill", 3.0, {"down": 0.0}),) * 4,
}


def named(world, without=()):
    """{lane: [Fault]}, of NAMED."""
    lanes = {lane: NAMED[lane, world[lane]["shape"] if lane in world else None]
             for lane in ("mover", "source", "target")}
    return {lane: [f for f in fs if not {f.kind, (lane, f.kind)} & set(without)]
            for lane, fs in lanes.items()}


def draw(seed, world, limit_s, without=()):
    """{lane: [Fault]} of about limit_s seconds; the same for the same seed and world."""
    lanes = {}
    for lane in ("mover", "source", "target"):
        shape = world[lane]["shape"] if lane in world else None
        table = TABLES[lane, shape]
        rng = random.Random("%s/%s/cluster" % (seed, lane))
        kinds = [k for k in table if possible(world, lane, k) and
                 not {k, (lane, k), (shape, k)} & set(without)]
        lanes[lane], spent = [], 0.0
        while kinds and lane not in without:
            kind = rng.choices(kinds, [table[k][0] for k in kinds])[0]
            f = Fault(lane, kind, seconds(rng, *GAPS[lane]), table[kind][1](rng))
            if lane == "source" and not world["lossy"]:
                spare(f)
            spent += f.gap_s + table[kind][2] + sum(v for v in f.args.values()
                                                    if isinstance(v, float))
            if spent > limit_s and (lanes[lane] or spent > 2 * limit_s):
                break
            lanes[lane].append(f)
    return lanes


def spare(fault):
    """So that a source loses nothing that it has confirmed: replication is asynchronous, so only a
    failover that was agreed upon will do."""
    if "how" in fault.args and fault.kind in ("failover", "both"):
        fault.args["how"] = "manual"
    if "lose" in fault.args:
        fault.args["lose"] = 0.0
    if fault.kind in ("crash", "stop"):
        for name in ("down", "for"):
            if name in fault.args:
                fault.args[name] = min(fault.args[name], 0.5)


def possible(world, lane, kind):
    side = world.get(lane, {})
    cluster = side.get("shape") == "cluster"
    if kind in ("failover", "both", "replace") and not side["replicas"]:
        return False
    if lane == "source" and not world["lossy"] and (
            kind == "older" or kind == "failover" and not cluster):
        return False
    if kind == "crash":
        return side["persistence"] not in ("rdb", "none")
    if kind == "older":  # a replica would have the newer data, and lose it again
        return side["persistence"] == "rdb" and not side["replicas"]
    if kind == "disk":
        return world["small_disk"]
    if kind in NEEDS_PROXIES and cluster:
        return side["proxies"]
    return True


class Part:
    """Some of a cluster's proxies."""

    def __init__(self, proxies):
        self.proxies = proxies


class ClusterActor(Actor):
    """Does faults. Each is undone when its function returns. Those of one primary, of links and of
    the mover are Actor's."""

    def do(self, fault):
        side = self.sides.get(fault.lane)
        if side is None or side.kind != "cluster":
            super().do(fault)
            return
        self.history.add("%s %s begins %s" % (fault.lane, fault.kind, fault.args or ""))
        if fault.kind in LINK:
            node = fault.args["node"]
            side = Part(side.proxies if node is None else [side.node(node).proxy])
            said = getattr(self, fault.kind)(side, fault.args)
        else:
            said = getattr(self, "cluster_" + fault.kind)(side, fault.args)
        self.history.done(fault, said is not False)

    def flush(self, side, a):
        side.call(a["how"])

    # -- nodes ---------------------------------------------------------------------------------
    def cluster_failover(self, side, a):
        shard = side.shard(a["shard"])
        if not ready_replica(side.shape, shard):
            return False
        side.shape.fail_over(shard, a["how"], a["lose"], a["gap"])
        return True

    def cluster_crash(self, side, a):
        node = side.node(a["node"])
        node.kill()
        time.sleep(a["down"])
        node.restart()
        side.shape.wait_ok()

    def cluster_stop(self, side, a):
        node = side.node(a["node"])
        node.pause()
        time.sleep(a["for"])
        node.cont()
        side.shape.wait_ok()

    def cluster_older(self, side, a):
        node = side.shape.primary_of(side.shard(a["shard"]))
        save(node)
        time.sleep(a["lose"])
        node.kill()
        time.sleep(a["down"])
        node.restart()
        side.shape.wait_ok()

    # -- slots ---------------------------------------------------------------------------------
    def cluster_reshard(self, side, a):
        return side.reshard(a["from"], a["to"], a["slots"], a["how"], a["batch"], a["back"])

    def cluster_both(self, side, a):
        """A shard fails over while slots move between two others. (One that they move from, or to,
        does not: in the classic way its replica knows nothing of that, and loses keys.)"""
        n, first = len(side.shape.shards), a["shard"]
        if n < 3 or not ready_replica(side.shape, side.shard(first)):
            return False
        with Beside(lambda: side.reshard(first + 1, first + 2, a["slots"], "classic", 5, True)):
            time.sleep(a["after"])
            side.shape.fail_over(side.shard(first), a["how"], timeout=60)
        return True

    def cluster_grow(self, side, a):
        if len(side.shape.shards) > side.count + 1:
            return False
        side.grow(a["slots"], a["how"], a["replica"])
        if a["back"]:  # another one goes, perhaps
            side.shrink(a["shard"], a["how"])
        return True

    def cluster_shrink(self, side, a):
        return side.shrink(a["shard"], a["how"])

    def cluster_replace(self, side, a):
        if not ready_replica(side.shape, side.shard(a["shard"])):
            return False
        return side.replace(a["shard"], a["primary"])

    # -- the source ----------------------------------------------------------------------------
    def cluster_drop(self, side, a):
        for p in side.primaries(a["node"]):
            p.call("CLIENT", "KILL", "TYPE", "replica")

    def cluster_backlog(self, side, a):
        """Out for longer than the source remembers."""
        for p in side.primaries():
            p.call("CONFIG", "SET", "repl-backlog-size", "16kb")
        self.cut(side, {"reset": False, "down": a["down"]})
        for p in side.primaries():
            p.call("CONFIG", "SET", "repl-backlog-size", "64mb")

    def cluster_flush(self, side, a):
        for p in side.primaries():
            p.call(a["how"])

    # -- the target ----------------------------------------------------------------------------
    def cluster_set_for(self, side, a, name, value, back):
        nodes = side.primaries(a["node"])
        for n in nodes:
            n.call("CONFIG", "SET", name, value)
        time.sleep(a["for"])
        for n in nodes:
            n.call("CONFIG", "SET", name, back)

    def cluster_oom(self, side, a):
        self.cluster_set_for(side, a, "maxmemory", 1 << 20, 0)

    def cluster_noreplicas(self, side, a):
        self.cluster_set_for(side, a, "min-replicas-to-write", 3, 0)

    def cluster_busy(self, side, a):
        with side.primaries(a["node"])[0].connect() as c:
            c.send(encode(("EVAL_RO", "local t=redis.call('TIME')[1]+%d while "
                           "tonumber(redis.call('TIME')[1])<=t do end" % a["for"], 0)))
            c.read()

    def cluster_disk(self, side, a):
        """The first node takes nothing meanwhile."""
        node = side.shape.primary_of(0)
        self.disk(type("", (), {"primary": node}), a)
        side.shape.wait_ok()


def ready_replica(shape, shard, timeout=10):
    """Is there a replica that could take over?"""
    primary = shape.primary_of(shard)
    others = [n for n in shard.nodes if n is not primary and n.up]
    try:
        return bool(others) and wait_for(lambda: any(in_sync(n, primary) for n in others), timeout)
    except (TimeoutError, OSError, ReplyError):
        return False


def save(server):
    """SAVE, once the snapshot for a replica that may be under way is over."""
    def saved():
        try:
            return server.call("SAVE")
        except ReplyError as e:
            if "in progress" not in str(e):
                raise
    wait_for(saved, 20)


class Beside:
    """Does something in a thread meanwhile; raises at the end what it has raised."""

    def __init__(self, what):
        self.what, self.error = what, None

    def __enter__(self):
        import threading
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        return self

    def run(self):
        try:
            self.what()
        except Exception as e:
            self.error = e

    def __exit__(self, kind, *exc):
        self.thread.join()
        if self.error and kind is None:
            raise self.error
