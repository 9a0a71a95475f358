# SPDX-License-Identifier: BSD-3-Clause
# What moves the data: keyhaul as a process, or (to test the tests) the servers' own replication.
import json
import os
import re
import signal
import subprocess
import tempfile
import time

from .resp import ReplyError, wait_for
from .server import die_with_parent, peak_rss_mb

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
CANARY = "keyhaul-test:canary"


def keyhaul_binary():
    return os.environ.get("KEYHAUL") or os.path.join(ROOT, "build", "keyhaul")


def offset_of(server):
    with server.connect() as c:
        return int(c.info("replication")["master_repl_offset"])


def wait_caught_up(source, target, source_db=0, target_db=None, timeout=60, alive=None):
    """Until every write the source has now taken is on the target: a key set and deleted last has
    come and gone there. Needs nobody's word but the two servers'."""
    target_db = source_db if target_db is None else target_db
    with source.connect(source_db) as s, target.connect(target_db, timeout=120) as t:
        mark = os.urandom(8).hex()

        def see(want):
            if alive:
                alive()
            try:
                return t.call("GET", CANARY) == want
            except ReplyError:
                return False

        s.call("SET", CANARY, mark)
        wait_for(lambda: see(mark.encode()), timeout)
        s.call("DEL", CANARY)
        wait_for(lambda: see(None), timeout)


class Keyhaul:
    """`keyhaul migrate` as a process; output and log go to files of its own folder."""

    def __init__(self, source, target, *options, env=None, source_uri=None, target_uri=None,
                 folder=None, metrics=True, stdin=subprocess.DEVNULL, preexec=die_with_parent):
        self.source, self.target = source, target
        self.dir = folder or tempfile.mkdtemp(prefix="kh-run-")
        self.metrics_file = os.path.join(self.dir, "metrics.json")
        self.args = [keyhaul_binary(), *self.command(source_uri), *self.ends(target_uri),
                     *(["--metrics-file", self.metrics_file] if metrics else []),
                     *map(str, options)]
        self.out = open(os.path.join(self.dir, "stdout"), "wb")
        self.err = open(os.path.join(self.dir, "stderr"), "wb")
        full = {k: v for k, v in os.environ.items() if not k.startswith("KEYHAUL_")}
        # no run meets the state of another but by a --state-dir or --task that a test hands over
        full["XDG_STATE_HOME"] = self.dir
        full.update(env or {})
        self.rusage = None
        self.rss_mb = 0.0
        self.started = time.monotonic()
        self.proc = subprocess.Popen(self.args, stdout=self.out, stderr=self.err, env=full,
                                     stdin=stdin, preexec_fn=preexec)

    def command(self, source_uri):
        return "migrate", "--source", source_uri or self.source.uri()

    def ends(self, target_uri):
        return ("--target", target_uri or self.target.uri(),
                "--spool-dir", os.path.join(self.dir, "spool"))

    # -- what it says --------------------------------------------------------------------------
    def read(self, name):
        with open(os.path.join(self.dir, name), errors="replace") as f:
            return f.read()

    @property
    def stdout(self):
        return self.read("stdout")

    @property
    def stderr(self):
        return self.read("stderr")

    @property
    def said(self):
        return self.stdout + self.stderr

    def metrics(self):
        """All of the metrics file in one flat dict, {} as long as there is none. A file that is
        there must be whole."""
        try:
            with open(self.metrics_file) as f:
                m = json.loads(f.read())
        except FileNotFoundError:
            return {}
        return {**m["counters"], **m}

    def phase(self):
        return str(self.metrics().get("phase", ""))

    # -- waiting -------------------------------------------------------------------------------
    def alive(self):
        if self.status() is not None:
            raise AssertionError("keyhaul ended early with status %s:\n%s" % (
                self.proc.returncode, self.said[-3000:]))

    def status(self):
        """Exit status, None while it runs. Keeps its resource usage."""
        if self.proc.returncode is None:
            # not rusage's: there the parent's size before exec counts as well
            self.rss_mb = max(self.rss_mb, peak_rss_mb(self.proc.pid))
            pid, st, ru = os.wait4(self.proc.pid, os.WNOHANG)
            if pid:
                self.proc.returncode = os.waitstatus_to_exitcode(st)
                self.rusage = ru
        return self.proc.returncode

    def wait(self, timeout=60):
        def ended():
            """keyhaul ends"""
            return self.status() is not None
        try:
            wait_for(ended, timeout)
        except TimeoutError:
            raise AssertionError("keyhaul still runs after %g s (phase %s):\n%s" % (
                timeout, self.phase(), self.said[-3000:]))
        return self.proc.returncode

    def wait_caught_up(self, timeout=60, **kw):
        wait_caught_up(self.source, self.target, timeout=timeout, alive=self.alive, **kw)

    def wait_metric(self, what, timeout=30):
        """Until what(counters) is true."""
        def there():
            """metrics file says so"""
            self.alive()
            m = self.metrics()
            return m and what(m)
        return wait_for(there, timeout)

    def terminate(self, timeout=30, sig=signal.SIGTERM):
        self.alive()
        self.proc.send_signal(sig)
        return self.wait(timeout)

    def finish(self, timeout=60, **kw):
        """Caught up, then SIGTERM: must end with 0."""
        self.wait_caught_up(timeout, **kw)
        st = self.terminate()
        assert st == 0, "status %s:\n%s" % (st, self.said[-3000:])

    def expect(self, status, *words, timeout=60):
        """Ends with this status and says all of these (regular expressions, any case)."""
        st = self.wait(timeout)
        assert st == status, "status %s, not %s:\n%s" % (st, status, self.said[-3000:])
        for w in words:
            assert re.search(w, self.said, re.I), "does not say %r:\n%s" % (w, self.said[-3000:])
        return self

    # -- figures -------------------------------------------------------------------------------
    def peak_rss_mb(self):
        """As of the last look at status(), at most 20 ms before the end."""
        self.status()
        return self.rss_mb

    def cpu_s(self):
        if self.rusage:
            return self.rusage.ru_utime + self.rusage.ru_stime
        with open("/proc/%d/stat" % self.proc.pid) as f:
            t = f.read().rsplit(")", 1)[1].split()
        return sum(int(x) for x in t[11:13]) / os.sysconf("SC_CLK_TCK")

    def close(self):
        if self.status() is None:
            self.proc.kill()
            self.proc.wait()
        self.out.close()
        self.err.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Restore(Keyhaul):
    """`keyhaul restore`: the source is a path, "-" or anything else that is put there."""

    def command(self, source_uri):
        return "restore", str(self.source)


class Backup(Keyhaul):
    """`keyhaul backup`: the target is the path to write."""

    def command(self, source_uri):
        return "backup", "--source", source_uri or self.source.uri()

    def ends(self, target_uri):
        return "--output", str(self.target)


class Native:
    """REPLICAOF with the face of Keyhaul, for checking harness, writer and comparison."""

    def __init__(self, source, target, *options, **kw):
        self.source, self.target = source, target
        target.call("REPLICAOF", *("127.0.0.1", source.port))

    def alive(self):
        pass

    def synced(self):
        """replica's link is up and its offset is the source's"""
        with self.target.connect(timeout=120) as t:
            m = t.info("replication")
        return (m.get("master_link_status") == "up" and
                int(m["slave_repl_offset"]) >= offset_of(self.source))

    def wait_caught_up(self, timeout=60, **kw):
        wait_for(self.synced, timeout)

    def finish(self, timeout=60, **kw):
        self.wait_caught_up(timeout)
        self.target.call("REPLICAOF", "NO", "ONE")

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass


def mover():
    """What $KEYHAUL_MOVER names: keyhaul, or native."""
    return Native if os.environ.get("KEYHAUL_MOVER") == "native" else Keyhaul
