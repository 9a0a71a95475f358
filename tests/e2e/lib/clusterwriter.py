# SPDX-License-Identifier: BSD-3-Clause
# An application of a cluster, or of a single server, whose every write counts. Seeded, many
# connections; it follows redirections, failovers and reshardings of its servers by itself.
#
# As a program it writes until SIGTERM (pauses at SIGUSR1, goes on at SIGUSR2), then prints counts
# and ledger as one line of JSON. As a module, ClusterWriter runs that program.
import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

if __package__ in (None, ""):
    # in place of this folder, where an inspect.py would go before Python's own
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
from lib.chaoswriter import LIBRARY  # noqa: E402
from lib.clusterload import Ledger, Load, draw_tags  # noqa: E402
from lib.resp import ReplyError  # noqa: E402
from lib.route import Router  # noqa: E402

BATCH = 25
LAST_TRY_S = 10  # what is refused for longer after the end is given up


class Gate:
    """What the main thread tells the workers."""

    def __init__(self):
        self.stop, self.pause = threading.Event(), threading.Event()
        self.stopped_at = 0.0

    def given_up(self):
        return self.stop.is_set() and time.monotonic() - self.stopped_at > LAST_TRY_S


class Worker(threading.Thread):
    """One connection to each node."""

    def __init__(self, number, opts, where, gate):
        super().__init__(daemon=True)
        rng = random.Random("%d/%d" % (opts.seed, number))
        tags = draw_tags(opts.seed, opts.tags, range(*opts.slots) if opts.slots else None)
        self.load = Load(rng, number, tags, opts.cross, opts.expiry, opts.newer, opts.functions)
        self.router = Router(where, timeout=3, seed=opts.seed + number)
        self.gate, self.number, self.functions = gate, number, opts.functions
        self.rate = opts.rate / opts.connections
        self.ledger = Ledger()
        self.counts = {"commands": 0, "errors": 0, "unknown": 0}
        self.due = time.monotonic()
        self.idle = threading.Event()
        self.failure = None

    def run(self):
        try:
            if self.number == 0 and self.functions:
                self.everywhere(("FUNCTION", "LOAD", "REPLACE", LIBRARY % 0))
            while not self.gate.stop.is_set():
                if self.gate.pause.is_set():
                    self.idle.set()
                    self.gate.stop.wait(0.01)
                    continue
                self.idle.clear()
                self.batch()
            if self.number == 0 and self.functions:
                # every primary ends with the same, those that came meanwhile as well
                self.everywhere(("FUNCTION", "LOAD", "REPLACE", LIBRARY % -1))
        except Exception as e:
            self.failure = "connection %d: %s: %s" % (self.number, type(e).__name__, e)
        self.idle.set()

    def everywhere(self, command):
        """Until every primary has taken it, or says that it does not know it."""
        while not self.gate.given_up():
            try:
                return self.router.everywhere(*command)
            except ReplyError as e:
                if "unknown command" in str(e):
                    return None
            except (OSError, ValueError):
                for a in list(self.router.conns):
                    self.router.drop(a)
            self.gate.stop.wait(0.05)
        raise TimeoutError("functions are not everywhere")

    def batch(self):
        units = []
        while len(units) < BATCH:
            units += self.load.next()
        for u in [u for u in units if u.note == "everywhere"]:
            self.everywhere(u.commands[0])
        units = [u for u in units if u.note != "everywhere"]
        for unit, replies in self.router.run(units, self.gate.given_up):
            self.settle(unit, replies)
        n = sum(len(u.commands) for u in units)
        self.counts["commands"] += n
        now = time.monotonic()
        self.due = max(self.due, now - 0.5) + n / self.rate
        if self.due > now:
            self.gate.stop.wait(self.due - now)

    def settle(self, unit, replies):
        """replies None: sent, but nobody knows whether it was executed."""
        if replies is None:
            self.counts["unknown"] += 1
            self.ledger.note(unit.note or (), answered=False)
        elif isinstance(replies[-1], ReplyError):
            self.counts["errors"] += 1  # wrong type, no such key or group: expected
        else:
            self.ledger.note(unit.note or (), answered=True)


def write_until_stopped(opts, where):
    gate, signals = Gate(), []
    for s in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(s, lambda n, _: signals.append(n))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    workers = [Worker(i, opts, where, gate) for i in range(opts.connections)]
    for w in workers:
        w.start()
    print("writing", flush=True)
    while signal.SIGTERM not in signals and not any(w.failure for w in workers):
        for s in signals[:]:
            if s == signal.SIGTERM:  # just now: it is to be found above
                continue
            signals.remove(s)
            if s == signal.SIGUSR2:
                gate.pause.clear()
                continue
            for w in workers:
                w.idle.clear()
            gate.pause.set()
            for w in workers:
                w.idle.wait()
            print("paused", flush=True)
        time.sleep(0.01)
    gate.stopped_at = time.monotonic()
    gate.stop.set()
    total = {"counts": {}, "sums": {}, "marks": {}, "failures": []}
    ledger = Ledger()
    for w in workers:
        w.join()
        for k, n in [*w.counts.items(), *w.router.counts.items()]:
            total["counts"][k] = total["counts"].get(k, 0) + n
        total["failures"] += [w.failure] if w.failure else []
        ledger.add(w.ledger)
    total.update(sums=ledger.sums, marks=ledger.marks)
    print(json.dumps(total), flush=True)


class ClusterWriter:
    """Runs this file as a process against a Shape. slots: of these only (first, end); cross: how
    often commands have keys of several slots, which only a single server takes; expiry: short, or
    long only. stop() returns its counts; then there is its ledger."""

    def __init__(self, shape, seed=1, connections=4, rate=3000, tags=80, slots=None, cross=0.0,
                 expiry="long", newer=0.0, functions=True, db=0):
        self.tags = draw_tags(seed, tags, range(*slots) if slots else None)
        args = [sys.executable, os.path.abspath(__file__), "--seed", str(seed), "--connections",
                str(connections), "--rate", str(rate), "--tags", str(tags), "--cross", str(cross),
                "--expiry", expiry, "--newer", str(newer)]
        args += ["--slots", "%d,%d" % slots] if slots else []
        args += [] if functions else ["--no-functions"]
        env = {**os.environ, "WRITER_WHERE": json.dumps(shape.where(db))}
        from .server import die_with_parent
        self.proc = subprocess.Popen(args, stdout=subprocess.PIPE, text=True, env=env,
                                     preexec_fn=die_with_parent)
        self.ledger = Ledger()
        self.expect("writing")

    def expect(self, word):
        line = self.proc.stdout.readline()
        if line.strip() != word:
            raise RuntimeError("the writer does not say %s: %s" % (word, line[-500:]))

    def pause(self):
        """Returns when all it has sent is answered."""
        self.proc.send_signal(signal.SIGUSR1)
        self.expect("paused")

    def resume(self):
        self.proc.send_signal(signal.SIGUSR2)

    def stop(self):
        """Only to be called while its servers answer."""
        self.proc.terminate()
        out = self.proc.stdout.read()
        self.proc.wait()
        if self.proc.returncode:
            raise RuntimeError("the writer failed: %d" % self.proc.returncode)
        said = json.loads(out)
        if said["failures"]:
            raise RuntimeError("the writer failed: %s" % said["failures"])
        self.ledger = Ledger(said["sums"], said["marks"])
        return said["counts"]

    def problems(self, shape, db=0):
        """After stop(): what a shape does not hold as it was answered, in words; none, where
        nothing was lost."""
        from .clusterload import account_sums, cross_sum
        with shape.router(db) as r:
            out = self.ledger.problems(r)
            out += ["accounts of {%s} sum up to %s" % x for x in
                    account_sums(r, self.tags).items()]
            if total := cross_sum(r, self.tags):
                out.append("accounts across slots sum up to %d" % total)
        return out

    def close(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        self.proc.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def main():
    numbers = lambda s: [int(x) for x in s.split(",")]
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--connections", type=int, default=4)
    p.add_argument("--rate", type=int, default=3000, help="commands a second, all together")
    p.add_argument("--tags", type=int, default=80)
    p.add_argument("--slots", type=numbers, default=None, help="FIRST,END: of these only")
    p.add_argument("--cross", type=float, default=0.0, help="share with keys of several slots")
    p.add_argument("--expiry", choices=("short", "long"), default="long")
    p.add_argument("--newer", type=float, default=0.0, help="share of commands of later versions")
    p.add_argument("--no-functions", dest="functions", action="store_false")
    write_until_stopped(p.parse_args(), json.loads(os.environ["WRITER_WHERE"]))


if __name__ == "__main__":
    main()
