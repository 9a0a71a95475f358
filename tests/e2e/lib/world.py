# SPDX-License-Identifier: BSD-3-Clause
# Where faults happen: two sides of one or two servers each behind proxies, a task that is run by as
# many processes as it takes, readers of the target that never stop, and the record of all of it.
import os
import signal
import threading
import time

from .chaoswriter import SUM
from .faultproxy import FaultProxy
from .mover import Keyhaul
from .resp import Client, ReplyError, wait_for
from .server import Server

PREFIX = b"keyhaul:checkpoint:"
IO_TIMEOUT_S = 2
# A process that ends by itself in one of these, and has done nothing yet, is started again: what is
# down or read-only when it begins is told, not waited for.
BEFORE_ANYTHING = ("", "connect", "check")
EARLY_ENDS = 30  # in a row, then it is a failure


class History:
    """What happened when, in the order of the clock."""

    def __init__(self):
        self.start = time.monotonic()
        self.lines = []
        self.played = {}

    @property
    def faults(self):
        return sum(self.played.values())

    def elapsed_s(self):
        return time.monotonic() - self.start

    def add(self, text):
        self.lines.append("%7.2f s  %s" % (self.elapsed_s(), text))

    def done(self, fault, possible=True):
        self.add("%s %s %s" % (fault.lane, fault.kind, "over" if possible else "not possible now"))
        if possible:
            self.played[fault.name()] = self.played.get(fault.name(), 0) + 1

    def __str__(self):
        return "\n".join("  " + x for x in self.lines)


PERSISTENCE = {
    "always": {"appendonly": "yes", "appendfsync": "always"},
    "everysec": {"appendonly": "yes", "appendfsync": "everysec"},
    "rdb": {"dbfilename": "dump.rdb"},
}


class Side:
    """The source or the target: a primary, perhaps a replica of it, a proxy before each for the
    mover, and one before each for the other one's replication."""

    def __init__(self, name, folder, persistence="always", replica=False, config=None, binary=None):
        self.name = name
        base = {"repl-ping-replica-period": 1, "repl-timeout": 10, "repl-backlog-size": "64mb",
                **PERSISTENCE[persistence], **(config or {})}
        count = 2 if replica else 1
        self.nodes = [Server(binary, dict(base), name="%s-%d" % (name, i), keep_log=folder)
                      for i in range(count)]
        self.proxies, self.links, self.primary_at = [], [], 0
        try:
            for i, n in enumerate(self.nodes):
                if i:
                    n.config["replicaof"] = ("127.0.0.1", self.links[0].port)
                n.start()
                self.proxies.append(FaultProxy(n.address))
                self.links.append(FaultProxy(n.address))
        except BaseException:
            self.close()
            raise

    @property
    def primary(self):
        return self.nodes[self.primary_at]

    def uri(self):
        return "redis://" + ",".join("127.0.0.1:%d" % p.port for p in self.proxies)

    def ports(self):
        return [n.port for n in self.nodes]

    def call(self, *args):
        return self.primary.call(*args)

    def replica_ready(self, timeout=8):
        """Is there a replica that has all that the primary has now, within this time? That its link
        is up does not say so: in the first second the primary may not send it any writes yet."""
        if len(self.nodes) < 2:
            return False
        goal = []

        def offset(server, name):
            with server.connect() as c:
                info = c.info("replication")
            return int(info[name]) if info.get("master_link_status", "up") == "up" else -1

        def has_all():
            if not goal:
                goal.append(offset(self.primary, "master_repl_offset"))
            return offset(self.nodes[1 - self.primary_at], "slave_repl_offset") >= goal[0]
        try:
            return wait_for(has_all, timeout)
        except (TimeoutError, OSError, ReplyError):
            return False

    def save(self):
        """SAVE, once the snapshot for a replica that may be under way is over."""
        def saved():
            try:
                return self.call("SAVE")
            except ReplyError as e:
                if "in progress" not in str(e):
                    raise
        wait_for(saved, 20)

    def crash(self, down_s=0.0):
        """kill -9 of the primary, and the same server again."""
        self.primary.kill()
        time.sleep(down_s)
        self.primary.restart()

    def fail_over(self, lose_s=0.0, gap_s=0.0):
        """The primary is gone and its replica takes over, without what was written in the last
        `lose_s`. The old one comes back as the replica."""
        if not self.replica_ready():
            return False
        old, new = self.primary_at, 1 - self.primary_at
        if lose_s:
            self.links[old].stall()
            time.sleep(lose_s)
        self.nodes[old].kill()
        self.links[old].cut(reset=True)
        self.links[old].resume()
        self.nodes[new].call("REPLICAOF", "NO", "ONE")
        self.nodes[new].config.pop("replicaof", None)
        self.primary_at = new
        time.sleep(gap_s)
        self.nodes[old].config["replicaof"] = ("127.0.0.1", self.links[new].port)
        self.nodes[old].restart()
        return True

    def heal(self):
        for p in self.proxies + self.links:
            p.refuse = False
            p.bytes_per_s = p.delay_s = 0
            p.resume()
            p.release()
        for n in self.nodes:
            n.cont()

    def close(self):
        for x in self.proxies + self.links:
            x.close()
        for n in self.nodes:
            n.stop()


class TaskRun(Keyhaul):
    """One process of a task; its folder is not that of the task."""

    def __init__(self, task, folder, *options):
        self.task = task
        super().__init__(None, None, *options, folder=folder, source_uri=task.source_uri,
                         target_uri=task.target_uri)

    def ends(self, target_uri):
        return "--target", target_uri, *self.task.options


class Task:
    """The same command again and again. A thread looks after it: a process that ends by itself
    before it has done anything (a server did not answer) is started again, any other that ends
    unasked is a failure."""

    def __init__(self, source_uri, target_uri, folder, *options, name="chaos", state_dir=None,
                 history=None):
        self.source_uri, self.target_uri, self.folder = source_uri, target_uri, folder
        self.name = name
        self.state_dir = state_dir or os.path.join(folder, "state")
        self.options = ["--task", name, "--state-dir", self.state_dir, *map(str, options)]
        self.history = history or History()
        self.lock = threading.RLock()
        self.runs = []
        self.wanted = False   # it should be running
        self.lenient = False  # it may end by itself now
        self.failure = None
        self.early = 0        # so many in a row ended before they did anything
        self.closed = threading.Event()
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()

    @property
    def run(self):
        return self.runs[-1]

    def start(self, *options):
        with self.lock:
            folder = os.path.join(self.folder, "run-%s-%03d" % (self.name, len(self.runs)))
            os.makedirs(folder)
            self.runs.append(TaskRun(self, folder, *options))
            self.wanted = True
            return self.run

    def kill(self):
        """kill -9."""
        with self.lock:
            self.early = 0
            self.wanted = False
            if self.run.status() is None:
                self.run.proc.kill()
            self.run.wait(10)

    def terminate(self, timeout=30):
        """SIGTERM; its status."""
        with self.lock:
            self.wanted = False
            if self.run.status() is None:
                self.run.proc.send_signal(signal.SIGTERM)
        return self.run.wait(timeout)

    def pause(self, seconds):
        with self.lock:
            proc = self.run.proc
            if self.run.status() is not None:
                return
            proc.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        with self.lock:
            if proc.returncode is None:
                proc.send_signal(signal.SIGCONT)

    def watch(self):
        while not self.closed.wait(0.05):
            with self.lock:
                if self.wanted and self.run.status() is not None:
                    self.ended_by_itself()

    def ended_by_itself(self):
        status, phase = self.run.status(), self.run.phase()
        words = self.run.said.strip().splitlines()
        self.history.add("process %d ended by itself: status %s, phase '%s', %s" % (
            len(self.runs), status, phase, words[-1] if words else "no word"))
        early = self.lenient or (phase in BEFORE_ANYTHING and self.has_done_nothing() and
                                 (status == 1 or status == 3 and "READONLY" in self.run.said))
        self.early = self.early + 1 if early else 0
        if early and self.early < EARLY_ENDS:
            if not self.closed.wait(0.3):
                self.start()
            return
        self.wanted = False
        self.failure = "process %d ended with status %s in phase '%s':\n%s" % (
            len(self.runs), status, phase, "\n".join(words[-15:]))

    def has_done_nothing(self):
        m = self.run.metrics()
        return not any(m.get(name) for name in ("keys_read", "commands_read", "bytes_written"))

    def check(self):
        """Raises when a process has ended that should not have."""
        if self.failure:
            raise AssertionError(self.failure)

    def metric(self, name):
        """Of the last process that told it."""
        for run in reversed(self.runs):
            m = run.metrics()
            if name in m:
                return m[name]
        return None

    def close(self):
        self.closed.set()
        self.watcher.join(5)
        for r in self.runs:
            try:
                r.proc.send_signal(signal.SIGCONT)
            except OSError:
                pass
            r.close()


class Reader(threading.Thread):
    """Asks the target's primary the same thing without pause; look(client) says what is wrong, or
    nothing. What goes wrong with the connection does not count: the target has its own faults."""

    def __init__(self, side, look, every=0.005):
        super().__init__(daemon=True)
        self.side, self.look, self.every = side, look, every
        self.stopping = threading.Event()
        self.reads, self.wrong = 0, []

    def run(self):
        while not self.stopping.is_set():
            server = getattr(self.side, "primary", self.side)
            try:
                with Client(server.address, timeout=2) as c:
                    while not self.stopping.is_set() and \
                            server is getattr(self.side, "primary", self.side):
                        what = self.look(c)
                        self.reads += 1
                        if what and len(self.wrong) < 10:
                            self.wrong.append(what)
                        self.stopping.wait(self.every)
            except (OSError, ReplyError):
                self.stopping.wait(0.05)

    def check(self, at_least=1):
        """Ends it; raises what it has seen."""
        self.close()
        assert not self.wrong, "a reader of the target saw: %s" % "; ".join(self.wrong)
        assert self.reads >= at_least, "only %d readings of the target" % self.reads

    def close(self):
        self.stopping.set()
        if self.is_alive():
            self.join(10)


def half_a_group(task="chaos", always=False):
    """A look at the accounts: their sum is 0, but for while a snapshot is being loaded; `always`:
    then as well, since there is none to load."""
    def look(c):
        total, checkpoint = c.call("EVAL", SUM, 1, PREFIX + task.encode())
        if total and (always or checkpoint.startswith(b"1 stream")):
            return "accounts sum up to %d at checkpoint %s" % (total, checkpoint.decode())
    return look
