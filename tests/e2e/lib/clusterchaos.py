# SPDX-License-Identifier: BSD-3-Clause
# A round of the chaos suite between shapes: two sides drawn from a seed, a writer with a ledger
# that never stops, faults in three lanes at once; then both sides are compared completely, the
# ledger as well, and the task is finished, after which no key of its own is left.
import os
import random
import subprocess
import tempfile
import threading

from . import chaos, clusterfaults
from .chaos import Round, binary
from .clustercompare import compare
from .clusterfaults import ClusterActor
from .clusterload import CONSUMERS
from .clustermove import wait_caught_up, wait_settled
from .clusterwriter import ClusterWriter
from .clusterworld import SIDES, Accounts
from .faults import SmallDisk
from .mover import keyhaul_binary
from .resp import ReplyError
from .world import IO_TIMEOUT_S, History, Task

FOREIGN = ["foreign:%d" % i for i in range(100)]
SHAPES = {"one": ("one", 1), "cluster3": ("cluster", 3), "cluster5": ("cluster", 5)}
PAIRS = ("one to cluster3", "cluster3 to one", "cluster3 to cluster5")

# What keyhaul does not do yet, by pair of shapes: parts of WITHOUT; "all".
NOT_YET = {
}
# After these the source may rightly be asked for another snapshot, or a node of the target for all
# that it had.
HISTORY_LOST = {("source", k) for k in ("crash", "older", "failover", "backlog", "both", "stop",
                                        "grow", "replace", "reshard", "shrink")}
WRITE_S = 120  # that a lane of faults may be late


def draw_side(rng, shape, name):
    kind, shards = SHAPES[shape]
    older = rng.random() < 0.15
    side = {"shape": kind, "persistence": "rdb" if older else rng.choice(("always", "everysec")),
            "replicas": 0 if older else 1}
    if kind == "cluster":
        side.update(shards=shards, proxies=rng.random() < 0.6, persistence="rdb" if older else
                    "everysec")
    return side


def with_replicas(pair):
    """Both sides so that each may fail over, as fixed parts of a world."""
    shapes = zip(("source", "target"), pair.split(" to "))
    return {name: {"shape": SHAPES[s][0], "shards": SHAPES[s][1], "persistence": "everysec",
                   "replicas": 1, "proxies": True} for name, s in shapes}


def draw_world(seed, pair, without=()):
    rng = random.Random("%s/%s" % (seed, pair))
    source, target = pair.split(" to ")
    world = {
        "pair": pair,
        "source": draw_side(rng, source, "source"), "target": draw_side(rng, target, "target"),
        "lossy": rng.random() < 0.3,  # the source may lose what it has confirmed
        "small_disk": rng.random() < 0.15 and SmallDisk.possible(),
        "spool_max": rng.choice((None, None, "6M", "20M")),
        "at_once": rng.random() < 0.3,  # the faults do not wait for the first snapshot
        "connections": rng.randrange(2, 6),
        "rate": rng.choice((500, 1500, 2500)),
        "tags": rng.choice((20, 150)),
        "before": rng.choice((0, 3000, 15_000)),
        "expiry": rng.choice(("short", "long", "long")),
        "cross": rng.choice((0.0, 0.05, 0.3)),
        "functions": True, "foreign": True,
        "end": rng.choice(("stopped, then finished", "finished while it runs")),
        "without": tuple(without),
    }
    if world["source"]["shape"] == "cluster" or "cross" in without:
        world["cross"] = 0.0
    for name in ("functions", "foreign", "small_disk", "lossy"):
        world[name] = world[name] and name not in without
    if "short" in without:
        world["expiry"] = "long"
    if world["expiry"] == "short":
        # an orderly end puts all deadlines right, so what is renewed before the next run dies
        world["without"] += (("mover", "term"),)
    return world


class ClusterRound(Round):
    """run() once; raises AssertionError with all that is needed to see what happened."""

    def __init__(self, seed, limit_s, pair, folder=None, without=(), **fixed):
        self.seed, self.limit_s, self.pair = seed, limit_s, pair
        self.world = draw_world(seed, pair, without)
        self.world.update(fixed)
        self.lanes = clusterfaults.draw("%s/%s" % (seed, pair), self.world, limit_s,
                                        self.world["without"])
        self.folder = folder or tempfile.mkdtemp(prefix="kh-cluster-chaos-")
        self.history = History()
        self.things, self.counts, self.trouble = [], {}, []
        self.over = threading.Event()

    # -- building ------------------------------------------------------------------------------
    def side(self, name):
        w = self.world[name]
        config = {"repl-backlog-size": "64mb"}
        if name == "target":
            config["busy-reply-threshold"] = "100"
        return self.keep(SIDES[w["shape"]](name, self.folder, w, binary(name), config))

    def fill(self):
        with self.source.shape.router() as r:
            r.feed(("SET", "old:%d" % i, "x" * 50) for i in range(self.world["before"]))
            r.feed(("RPUSH", "old:list:%d" % (i % 99), i)
                   for i in range(self.world["before"] // 3))
        if self.world["source"]["persistence"] == "rdb":
            for p in self.source.shape.primaries():
                clusterfaults.save(p)
        if self.foreign():
            with self.target.shape.router() as r:
                r.feed(("SET", k, k) for k in FOREIGN)

    def has(self, lane, kinds):
        return any(f.kind in kinds for f in self.lanes[lane])

    def foreign(self):
        return self.world["foreign"] and not self.has("source", ("flush",))

    def actor_for(self, disk):
        return ClusterActor(self.source, self.target, self.task, self.history, disk)

    # -- running -------------------------------------------------------------------------------
    def start_writer(self):
        w = self.world
        writer = self.keep(ClusterWriter(
            self.source.shape, seed=self.seed, connections=w["connections"], rate=w["rate"],
            tags=w["tags"], cross=w["cross"], expiry=w["expiry"], functions=w["functions"]))
        self.sums = self.keep(Accounts(self.target, writer.tags))
        return writer

    def wait_caught_up(self, timeout=90):
        wait_caught_up(self.source.shape, self.target.shape, timeout=timeout,
                       alive=self.task.check)
        wait_settled(os.path.join(self.task.state_dir, self.task.name), timeout, self.task.check)

    def judge(self):
        self.task.check()
        assert self.counts["commands"] > 20 * self.limit_s, "the writer hardly wrote"
        self.wait_caught_up()
        self.history.add("caught up")
        self.task.check()
        self.check_sums()
        if self.world["end"].startswith("stopped"):
            self.ended(self.task.terminate(), "ended")
        else:
            self.finish()
        self.compare()
        assert not self.task.metric("errors"), "errors counted: %s" % self.task.metric("errors")
        self.snapshots()
        self.check_ledger()
        if self.world["end"].startswith("stopped"):
            self.finish()
        self.check_nothing_left()
        self.counts.update(
            faults=self.history.faults, played=self.history.played, sums=self.sums.reads,
            stopped_badly=str(self.history).count("ended with status 1"))

    def check_sums(self):
        """A shard that is flushed is emptied on the target key by key."""
        if self.has("source", ("flush",)) and self.source.kind == "cluster":
            self.sums.close()
        else:
            self.sums.check()

    def ended(self, status, how, said=None):
        self.history.add("%s with status %s" % (how, status))
        assert status == 0, "%s with status %s:\n%s" % (how, status,
                                                        (said or self.task.run.said)[-3000:])

    def finish(self):
        """`keyhaul finish`, with a process that runs the task, or without."""
        with self.task.lock:
            self.task.wanted = False
        run = subprocess.run([keyhaul_binary(), "finish", self.task.name, "--state-dir",
                              self.task.state_dir, "--timeout", "60s"], capture_output=True,
                             text=True, stdin=subprocess.DEVNULL, timeout=120)
        self.ended(run.returncode, "finished", run.stdout + run.stderr)
        if self.task.run.status() is None or not self.world["end"].startswith("stopped"):
            self.ended(self.task.run.wait(30), "the process that ran it ended")

    def compare(self):
        """MIGRATE tells the new node for how long a key is to live yet: a bit longer, then."""
        foreign = FOREIGN if self.foreign() else []
        moved = self.has("target", ("reshard", "both", "grow", "shrink"))
        r = compare(self.source.shape, self.target.shape, settle_s=chaos.SESSION_S, ignore=foreign,
                    unsent=CONSUMERS, late_ms=2000 if moved else 0)
        assert r.count == 0, str(r)
        self.counts["keys"] = r.keys
        if foreign:
            with self.target.shape.router() as t:
                gone = [k for k, v in zip(FOREIGN, t.calls([("GET", k) for k in FOREIGN]))
                        if v != k.encode()]
            assert not gone, "keys of the target that were not the task's are gone: %s" % gone[:5]
        for p in self.source.shape.primaries():
            assert not p.call("KEYS", "keyhaul:*"), "it wrote to the source"

    def check_ledger(self):
        """What was answered, to the last one. Where the source itself has lost some, equal must
        do."""
        if self.has("source", ("flush",)):
            return
        lost = self.writer.problems(self.source.shape)
        assert not lost or self.world["lossy"], "the source itself lost: %s" % "; ".join(lost)
        self.counts["ledger"] = len(self.writer.ledger.sums) + len(self.writer.ledger.marks)
        if lost:
            return
        wrong = self.writer.problems(self.target.shape)
        assert not wrong, "the target, unlike what was answered: %s" % "; ".join(wrong)

    def check_nothing_left(self):
        left = [k for n in self.target.shape.primaries() for k in n.call("KEYS", "keyhaul:*")]
        assert not left, "left on the target: %s" % left[:10]

    def snapshots(self):
        """Where no history was lost, one snapshot of each shard must do."""
        done = {(f.lane, f.kind) for fs in self.lanes.values() for f in fs}
        one = not (self.world["at_once"] or done & HISTORY_LOST)
        n = self.counts["snapshots"] = self.task.metric("snapshots")
        want = self.world["source"].get("shards", 1)
        assert n == want or not one, "%s snapshots, and the source never lost its history" % n
        unmarked = sum(r.said.count("has no checkpoint of this task") for r in self.task.runs)
        # the first marks of a load may be lost like any other write
        forgets = any(f.args.get("lose") for f in self.lanes["target"])
        assert not unmarked or forgets or self.has("target", ("grow", "shrink")), \
            "marks are missing"

    def again(self):
        return "make chaos-cluster SEED=%s ROUNDS=1 SECONDS=%g SHAPES='%s'%s" % (
            self.seed, self.limit_s, self.pair, self.also_without())

    def also_without(self):
        parts = [":".join(w) if isinstance(w, tuple) else w for w in self.world["without"]
                 if w not in NOT_YET.get(self.pair, ()) and w != ("mover", "term")]
        return " WITHOUT=" + ",".join(parts) if parts else ""
