# SPDX-License-Identifier: BSD-3-Clause
# A round of the chaos suite: a world drawn from a seed, a writer that never stops, faults in three
# lanes at once; then both sides are compared completely.
import os
import random
import shutil
import tempfile
import threading
import time

from . import faults
from .chaoswriter import SUM, ChaosWriter
from .compare import compare
from .faults import Actor, SmallDisk
from .mover import wait_caught_up
from .resp import ReplyError
from .server import binary_version, find_servers
from .world import History, IO_TIMEOUT_S, Reader, Side, Task, half_a_group

SESSION_S = 3.5  # the longest that a key with a short deadline lives
# Faults after which the source may rightly be asked for another snapshot.
HISTORY_LOST = {("source", k) for k in ("crash", "older", "failover", "backlog")}


def draw_world(seed, **fixed):
    rng = random.Random("%s/world" % seed)
    small_disk = rng.random() < 0.15 and SmallDisk.possible()
    world = {
        "source": {"persistence": rng.choice(("always", "always", "rdb")),
                   "replica": rng.random() < 0.5},
        "target": {"persistence": rng.choice(("always", "everysec", "rdb")),
                   "replica": rng.random() < 0.5},
        "backlog": rng.choice(("64mb", "64mb", "64mb", "1mb")),
        "spool_max": "6M" if small_disk else rng.choice((None, None, "4M", "20M")),
        "small_disk": small_disk,
        "at_once": rng.random() < 0.3,  # the faults do not wait for the first snapshot
        "connections": rng.randrange(2, 10),
        "rate": rng.choice((800, 2500, 4000)),
        "before": rng.choice((0, 3000, 15_000)),
        "expiry": rng.choice(("short", "long")),
        "without": (),
        "foreign": True,
    }
    world.update(fixed)
    if world["expiry"] == "short":
        # an orderly end puts all deadlines right, so what is renewed before the next run dies
        world["without"] = (*world["without"], ("mover", "term"))
    return world


def binary(side):
    """$KEYHAUL_CHAOS_SOURCE, $KEYHAUL_CHAOS_TARGET: names of tests/servers."""
    name = os.environ.get("KEYHAUL_CHAOS_" + side.upper(), "default")
    return find_servers()[name]


def untold(source_version, elapsed_s):
    """What a source does not send, as options of compare(). Before 7.0 times to live, which count
    from when they arrive; from 7.2 on the making of a consumer that XREADGROUP finds nothing for."""
    return {"late_ms": elapsed_s * 1000 if source_version < (7, 0) else 0,
            "unsent": [b"c%d" % i for i in range(4)] if source_version >= (7, 2) else (),
            "unsent_either": True}


class Round:
    """run() once; raises AssertionError with all that is needed to see what happened."""

    def __init__(self, seed, limit_s, folder=None, **fixed):
        self.seed, self.limit_s = seed, limit_s
        self.source_version = binary_version(binary("source"))[1]
        if self.source_version < (7, 0):
            fixed["expiry"] = "long"  # near deadlines that come late are other deadlines
        self.world = draw_world(seed, **fixed)
        self.lanes = faults.draw(seed, self.world, limit_s, self.world["without"])
        self.folder = folder or tempfile.mkdtemp(prefix="kh-chaos-")
        self.history = History()
        self.things = []
        self.counts = {}
        self.trouble = []
        self.over = threading.Event()

    # -- building ------------------------------------------------------------------------------
    def keep(self, thing):
        self.things.append(thing)
        return thing

    def side(self, name):
        w = self.world[name]
        config = {"repl-backlog-size": self.world["backlog"]}
        if name == "target":
            config["lua-time-limit"] = "100"
        return self.keep(Side(name, self.folder, w["persistence"], w["replica"], config,
                              binary(name)))

    def build(self):
        self.source, self.target = self.side("source"), self.side("target")
        options = ["--io-timeout", "%ds" % IO_TIMEOUT_S, "--connect-timeout", "2s",
                   "--retry-time", "10m", "--on-conflict", "fail"]
        if self.world["spool_max"]:
            options += ["--spool-max", self.world["spool_max"]]
        disk = None
        if self.world["small_disk"]:
            disk = os.path.join(self.folder, "disk")
            self.keep(SmallDisk(disk))
            options += ["--spool-dir", disk]
        self.fill()
        self.task = self.keep(Task(self.source.uri(), self.target.uri(), self.folder, *options,
                                   history=self.history))
        self.actor = self.actor_for(disk)

    def actor_for(self, disk):
        return Actor(self.source, self.target, self.task, self.history, disk)

    def fill(self):
        with self.source.primary.connect() as c:
            c.feed(("SET", "old:%d" % i, "x" * 50) for i in range(self.world["before"]))
            c.feed(("RPUSH", "old:list", i) for i in range(self.world["before"] // 3))
        if self.world["source"]["persistence"] == "rdb":
            self.source.save()
        if self.foreign():
            with self.target.primary.connect(1) as c:
                c.feed(("SET", "foreign:%d" % i, i) for i in range(100))

    def foreign(self):
        """Keys of the target that are nobody's business: a FLUSHALL of the source is the end of
        them all the same."""
        return self.world["foreign"] and not any(f.kind == "flushall"
                                                 for f in self.lanes["source"])

    # -- running -------------------------------------------------------------------------------
    def run(self):
        try:
            self.build()
            self.play()
            self.judge()
        except (AssertionError, OSError, ReplyError, TimeoutError, RuntimeError) as e:
            self.trouble.insert(0, "%s: %s" % (type(e).__name__, e))
        finally:
            self.close()
        if self.trouble:
            raise AssertionError(self.report())
        shutil.rmtree(self.folder, ignore_errors=True)
        return self.counts

    def start_writer(self):
        """And a reader, who begins later."""
        self.sums = self.keep(Reader(self.target, half_a_group()))
        return self.keep(ChaosWriter(self.source.ports(), self.seed, self.world["connections"],
                                     self.world["rate"], self.world["expiry"]))

    def wait_caught_up(self, timeout=60):
        wait_caught_up(self.source.primary, self.target.primary, timeout=timeout,
                       alive=self.task.check)

    def play(self):
        self.writer = self.start_writer()
        self.sums.start()
        self.task.start()
        if not self.world["at_once"]:
            self.wait_caught_up()
            self.history.add("caught up for the first time")
        done = [threading.Event() for _ in self.lanes]
        for name, d in zip(self.lanes, done):
            threading.Thread(target=self.lane, args=(name, d), daemon=True).start()
        for d in done:
            assert d.wait(10 * self.limit_s + 120), "a lane of faults does not end"
        for s in (self.source, self.target):
            s.heal()
        time.sleep(0.5)
        self.counts.update(self.writer.stop())
        self.history.add("the writer has stopped: %s" % self.counts)

    def lane(self, name, done):
        try:
            for f in self.lanes[name]:
                time.sleep(f.gap_s)
                if self.task.failure:
                    break
                self.actor.do(f)
        except Exception as e:  # the suite's own fault: say so, heal, and fail
            self.trouble.append("%s: %s: %s" % (f, type(e).__name__, e))
        done.set()
        self.over.wait()  # what this thread has started dies with it (die_with_parent)

    def judge(self):
        self.task.check()
        assert self.counts["commands"] > 50 * self.limit_s, "the writer hardly wrote"
        self.wait_caught_up()
        self.history.add("caught up")
        self.task.check()
        self.sums.check()
        status = self.task.terminate()
        self.history.add("ended with status %s" % status)
        assert status == 0, "status %s at the end:\n%s" % (status, self.task.run.said[-3000:])
        self.compare()
        assert not self.task.metric("errors"), "errors counted: %s" % self.task.metric("errors")
        self.snapshots()
        for s in (self.source, self.target):
            total = s.call("EVAL", SUM, 1, "nothing")[0]
            assert total == 0, "accounts of the %s sum up to %d" % (s.name, total)
        self.counts.update(faults=self.history.faults, sums=self.sums.reads)

    def compare(self):
        foreign = ["foreign:%d" % i for i in range(100)] if self.foreign() else []
        options = untold(self.source_version, self.history.elapsed_s())

        def look():
            return compare(self.source.primary, self.target.primary, ignore=foreign, **options)
        r = look()
        if r.count:  # a key may have died between the two looks: what is wrong stays wrong
            time.sleep(SESSION_S)
            r = look()
        assert r.count == 0, str(r)
        self.counts["keys"] = r.keys
        if foreign:
            with self.target.primary.connect(1) as c:
                assert c.call("MGET", *foreign) == [b"%d" % i for i in range(100)], \
                    "keys of the target that were not the task's are gone"
        assert not self.source.call("KEYS", "keyhaul:*"), "it wrote to the source"

    def snapshots(self):
        """Where no history was lost, one snapshot must do."""
        done = {(f.lane, f.kind) for fs in self.lanes.values() for f in fs}
        one = not (self.world["at_once"] or done & HISTORY_LOST or self.world["backlog"] != "64mb")
        n = self.task.metric("snapshots")
        self.counts["snapshots"] = n
        assert n == 1 or not one, "%s snapshots, and the source never lost its history" % n

    # -- the end -------------------------------------------------------------------------------
    def close(self):
        for t in reversed(self.things):
            try:
                t.close()
            except Exception as e:  # the rest must still be stopped
                print("while stopping %r: %s" % (t, e))
        self.over.set()

    def report(self):
        lanes = "\n".join("  %s" % f for fs in self.lanes.values() for f in fs)
        return "\n".join([
            "seed %s: %s" % (self.seed, "\n".join(self.trouble)),
            "world: %s" % self.world, "schedule:", lanes, "what happened:", str(self.history),
            "logs: %s" % self.folder, "again: " + self.again()])

    def again(self):
        return "make chaos SEED=%s ROUNDS=1 SECONDS=%g" % (self.seed, self.limit_s)
