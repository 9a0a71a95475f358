# SPDX-License-Identifier: BSD-3-Clause
# The faults of the chaos suite: a table, a seeded schedule of three lanes (mover, source, target)
# that run at once, and how each fault is done and undone.
import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass

from .resp import ReplyError, encode, wait_for
from .server import free_port
from .world import IO_TIMEOUT_S

LONG = IO_TIMEOUT_S + 1  # longer than the mover waits for a server to say something


@dataclass
class Fault:
    lane: str
    kind: str
    gap_s: float  # after the one before it
    args: dict

    def name(self):
        """Side and kind, and which of its kind, where these are faults of their own."""
        how = [self.args[k] for k in ("how", "slots") if k in self.args]
        how += [k for k in ("back", "primary", "replica") if self.args.get(k)]
        return " ".join(map(str, [self.lane, self.kind, *how]))

    def __str__(self):
        return "%-6s +%.2f s  %s %s" % (self.lane, self.gap_s, self.kind, " ".join(
            "%s=%s" % (k, "%.2f" % v if isinstance(v, float) else v)
            for k, v in self.args.items()))


def seconds(rng, low, high):
    return round(rng.uniform(low, high), 2)


def outage(rng):
    """Mostly short, sometimes longer than the timeouts."""
    return seconds(rng, 0.05, 1) if rng.random() < 0.7 else seconds(rng, LONG, LONG + 1)


def ways(rng):
    return rng.choice((("up",), ("down",), ("up", "down")))


# lane -> kind -> (weight, how its arguments are drawn, how long it takes about)
LINK = {
    "cut": (3, lambda r: {"reset": r.random() < 0.5, "down": outage(r)}),
    "stall": (3, lambda r: {"ways": ways(r), "for": outage(r)}),
    "late": (2, lambda r: {"ways": ways(r), "for": seconds(r, 0.1, LONG + 1)}),
    "half": (2, lambda r: {"side": r.choice(("client", "server"))}),
    "slow": (1, lambda r: {"rate": r.choice((20_000, 200_000)), "for": seconds(r, 0.5, 2)}),
}
SERVER = {
    "crash": (3, lambda r: {"down": outage(r)}),
    "stop": (2, lambda r: {"for": outage(r)}),
    "failover": (4, lambda r: {"lose": r.choice((0.0, seconds(r, 0.05, 1.5))),
                               "gap": seconds(r, 0, 1)}),
    "older": (3, lambda r: {"lose": seconds(r, 0.1, 1.5), "down": seconds(r, 0, 1)}),
}
TABLE = {
    "mover": {
        "kill": (6, lambda r: {"down": r.choice((0.0, outage(r)))}),
        "term": (2, lambda r: {"down": r.choice((0.0, outage(r)))}),
        "stop": (1, lambda r: {"for": outage(r)}),
    },
    "source": {
        **LINK, **SERVER,
        "drop": (2, lambda r: {}),
        "backlog": (2, lambda r: {"down": seconds(r, 0.3, 1.5)}),
        "flushall": (1, lambda r: {}),
        "flushdb": (1, lambda r: {}),
        "swapdb": (2, lambda r: {}),
    },
    "target": {
        **LINK, **SERVER,
        "oom": (2, lambda r: {"for": seconds(r, 0.2, 3)}),
        "readonly": (2, lambda r: {"for": seconds(r, 0.2, 2)}),
        "noreplicas": (1, lambda r: {"for": seconds(r, 0.2, 2)}),
        "busy": (1, lambda r: {"for": r.randrange(1, 3)}),
        "misconf": (1, lambda r: {"for": seconds(r, 0.2, 2)}),
        "disk": (4, lambda r: {"for": seconds(r, 1, 3)}),
    },
}
GAPS = {"mover": (0.2, 4), "source": (0.3, 3), "target": (0.3, 3)}


def draw(seed, world, limit_s, without=()):
    """{lane: [Fault]} of about limit_s seconds; the same for the same seed and world."""
    lanes = {}
    for lane, table in TABLE.items():
        rng = random.Random("%s/%s" % (seed, lane))
        kinds = [k for k in table if possible(world, lane, k) and k not in without and
                 (lane, k) not in without]
        lanes[lane], spent = [], 0.0
        while kinds and lane not in without:
            kind = rng.choices(kinds, [table[k][0] for k in kinds])[0]
            f = Fault(lane, kind, seconds(rng, *GAPS[lane]), table[kind][1](rng))
            spent += f.gap_s + sum(v for v in f.args.values() if isinstance(v, float)) + 0.2
            if spent > limit_s:
                break
            lanes[lane].append(f)
    return lanes


def children(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
        return [int(x) for x in f.read().split()]


def possible(world, lane, kind):
    side = world.get(lane, {})
    if kind == "failover":
        return side["replica"]
    if kind == "crash":
        return side["persistence"] != "rdb"
    if kind == "older":  # a replica would have the newer data, and lose it again
        return side["persistence"] == "rdb" and not side["replica"]
    if kind == "disk":
        return world["small_disk"]
    return True


class Actor:
    """Does faults. Each is undone when its function returns."""

    def __init__(self, source, target, task, history, small_disk=None):
        self.sides = {"source": source, "target": target}
        self.task, self.history, self.small_disk = task, history, small_disk

    def do(self, fault):
        self.history.add("%s %s begins %s" % (fault.lane, fault.kind, fault.args or ""))
        side = self.sides.get(fault.lane)
        act = getattr(self, ("mover_" if fault.lane == "mover" else "") + fault.kind)
        said = act(fault.args) if side is None else act(side, fault.args)
        self.history.done(fault, said is not False)

    # -- the mover -----------------------------------------------------------------------------
    def mover_kill(self, a):
        self.task.kill()
        time.sleep(a["down"])
        self.task.start()

    def mover_term(self, a):
        status = self.task.terminate(25)
        self.history.add("ended with status %s" % status)
        time.sleep(a["down"])
        self.task.start()

    def mover_stop(self, a):
        self.task.pause(a["for"])

    # -- links ---------------------------------------------------------------------------------
    def cut(self, side, a):
        for p in side.proxies:
            p.refuse = True
            p.cut(a["reset"])
        time.sleep(a["down"])
        for p in side.proxies:
            p.refuse = False

    def stall(self, side, a):
        for p in side.proxies:
            p.stall(*a["ways"])
        time.sleep(a["for"])
        for p in side.proxies:
            p.resume()

    def late(self, side, a):
        for p in side.proxies:
            p.hoard(*a["ways"])
        time.sleep(a["for"])
        for p in side.proxies:
            p.release()

    def half(self, side, a):
        for p in side.proxies:
            p.forget(a["side"])

    def slow(self, side, a):
        for p in side.proxies:
            p.bytes_per_s = a["rate"]
        time.sleep(a["for"])
        for p in side.proxies:
            p.bytes_per_s = 0

    # -- servers -------------------------------------------------------------------------------
    def crash(self, side, a):
        side.crash(a["down"])

    def stop(self, side, a):
        side.primary.pause()
        time.sleep(a["for"])
        side.primary.cont()

    def failover(self, side, a):
        return side.fail_over(a["lose"], a["gap"])

    def older(self, side, a):
        side.save()
        time.sleep(a["lose"])
        side.crash(a["down"])

    # -- the source ----------------------------------------------------------------------------
    def drop(self, side, a):
        side.call("CLIENT", "KILL", "TYPE", "replica")

    def backlog(self, side, a):
        """Out for longer than the source remembers."""
        side.call("CONFIG", "SET", "repl-backlog-size", "16kb")
        self.cut(side, {"reset": False, "down": a["down"]})
        side.call("CONFIG", "SET", "repl-backlog-size", "64mb")

    def flushall(self, side, a):
        side.call("FLUSHALL")

    def flushdb(self, side, a):
        with side.primary.connect(5) as c:
            c.call("FLUSHDB", "ASYNC")

    def swapdb(self, side, a):
        side.call("SWAPDB", 5, 6)

    # -- the target ----------------------------------------------------------------------------
    def set_for(self, side, name, value, back, a):
        side.call("CONFIG", "SET", name, value)
        time.sleep(a["for"])
        side.call("CONFIG", "SET", name, back)

    def oom(self, side, a):
        self.set_for(side, "maxmemory", 1 << 20, 0, a)

    def noreplicas(self, side, a):
        self.set_for(side, "min-replicas-to-write", 3, 0, a)

    def misconf(self, side, a):
        """Its snapshot has failed: it takes no writes until one goes well, or it need not."""
        server = side.primary
        with server.connect() as c:
            c.call("CONFIG", "SET", "save", "3600 1000000")
            c.call("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes")
            c.call("CONFIG", "SET", "rdb-key-save-delay", 10_000_000)
            try:
                c.call("BGSAVE")
                for pid in children(server.proc.pid):
                    os.kill(pid, signal.SIGKILL)
                failed = wait_for(lambda: c.info("persistence")["rdb_bgsave_in_progress"] == "0" and
                                  c.info("persistence")["rdb_last_bgsave_status"], 5) == "err"
                time.sleep(a["for"] if failed else 0)
            except (ReplyError, OSError):  # the snapshot for a replica is under way
                failed = False
            c.call("CONFIG", "SET", "rdb-key-save-delay", 0)
            c.call("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
            c.call("CONFIG", "SET", "save", "")
        return failed

    def readonly(self, side, a):
        side.call("REPLICAOF", "127.0.0.1", free_port())
        time.sleep(a["for"])
        side.call("REPLICAOF", "NO", "ONE")

    def busy(self, side, a):
        with side.primary.connect() as c:
            c.send(encode(("EVAL", "local t=redis.call('TIME')[1]+%d while "
                           "tonumber(redis.call('TIME')[1])<=t do end" % a["for"], 0)))
            c.read()

    def disk(self, side, a):
        """Somebody else takes all of the spool's disk, and the target takes nothing meanwhile."""
        path = os.path.join(self.small_disk, "somebody-else")
        side.primary.pause()
        try:
            with open(path, "wb", buffering=0) as f:
                while True:
                    f.write(bytes(65536))
        except OSError:
            pass
        time.sleep(a["for"])
        side.primary.cont()
        time.sleep(0.5)
        os.unlink(path)


class SmallDisk:
    """A file system of a few MB; only root may have one."""

    def __init__(self, path, size="16m"):
        self.path = path
        os.makedirs(path)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + size, "tmpfs", path], check=True,
                       capture_output=True)

    @staticmethod
    def possible():
        return os.geteuid() == 0

    def close(self):
        subprocess.run(["umount", "-l", self.path], check=False, capture_output=True)
