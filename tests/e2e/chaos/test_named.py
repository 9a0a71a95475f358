# SPDX-License-Identifier: BSD-3-Clause
# Exactly once, promise by promise: kills, failovers, cuts and late deliveries under a load that
# tells each lost or doubled write.
import os
import random
import re
import signal
import threading
import time

import pytest

from lib.chaoswriter import ChaosWriter
from lib.compare import assert_equal
from lib.faults import SmallDisk
from lib.mover import wait_caught_up
from lib.resp import encode, wait_for
from lib.world import IO_TIMEOUT_S, half_a_group

FOREIGN = ["foreign:%d" % i for i in range(200)]


class Counted(threading.Thread):
    """n writes, INCR and RPUSH in turn, in order over one connection, at a rate."""

    def __init__(self, side, n, rate):
        super().__init__(daemon=True)
        self.side, self.n, self.rate = side, n, rate
        self.start()

    def run(self):
        begin, chunk = time.monotonic(), 200
        with self.side.primary.connect() as c:
            for i in range(0, self.n, chunk):
                c.send(b"".join(encode(("INCR", "count")) if j % 2 else
                                encode(("RPUSH", "log", j)) for j in range(i, i + chunk)))
                for _ in range(chunk):
                    c.read()
                ahead = (i + chunk) / self.rate - (time.monotonic() - begin)
                if ahead > 0:
                    time.sleep(ahead)

    def assert_exact(self, side, timeout=60):
        """All of them are there, once and in order."""
        self.join(timeout)
        assert not self.is_alive()
        with side.primary.connect() as c:
            assert (int(c.call("GET", "count")), c.call("LLEN", "log")) == (self.n / 2, self.n / 2)
            assert c.call("LRANGE", "log", 0, -1) == [b"%d" % i for i in range(0, self.n, 2)]


def caught_up(source, target, task, timeout=40):
    wait_caught_up(source.primary, target.primary, timeout=timeout, alive=task.check)


def ends_well(source, target, task, **kw):
    """Caught up, ended by SIGTERM, equal."""
    caught_up(source, target, task)
    assert task.terminate() == 0, task.run.said
    return assert_equal(source.primary, target.primary, **kw)


def fill(side, n=20_000, size=200):
    """Of values that cannot be compressed: a snapshot has about their size."""
    with side.primary.connect() as c:
        c.feed(("SET", "key:%d" % i, os.urandom(size)) for i in range(n))
        c.feed(("RPUSH", "list:%d" % (i % 50), i) for i in range(n // 4))


def put_foreign(side):
    with side.primary.connect(3) as c:
        c.feed(("SET", k, k) for k in FOREIGN)


def assert_foreign(side):
    with side.primary.connect(3) as c:
        assert c.call("MGET", *FOREIGN) == [k.encode() for k in FOREIGN]


# -- killed ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("failover", [False, True], ids=["", "failover"])
def test_five_kills(side, task, failover):
    """300,000 of 300,000, not one more or less; the second time the target fails over in between,
    and loses what it wrote last."""
    source, target = side("source"), side("target", replica=failover)
    t = task(source, target)
    t.start()
    caught_up(source, target, t)
    load = Counted(source, 300_000, 25_000)
    rng = random.Random(5)
    for i in range(5):
        time.sleep(rng.uniform(0.8, 1.6))
        t.kill()
        t.start()
        if failover and i in (1, 3):
            time.sleep(rng.uniform(0.1, 0.8))
            assert target.fail_over(lose_s=0.4)
    load.join(60)
    ends_well(source, target, t)
    load.assert_exact(target)
    assert t.metric("snapshots") == 1


def test_atomic(side, task, reader):
    """A reader of the target never sees half of a transaction, however often the mover is killed
    and its link cut."""
    source, target = side("source"), side("target")
    t = task(source, target)
    with ChaosWriter(source.ports(), seed=3, connections=6, rate=4000, expiry="long") as w:
        t.start()
        caught_up(source, target, t)
        r = reader(target, half_a_group(always=True), every=0.001)
        before = target.call("GET", "acct:0")
        for i in range(5):
            time.sleep(0.7)
            t.kill()
            t.start()
            time.sleep(0.5)
            target.proxies[0].cut(reset=i % 2 == 0)
        w.stop()
    ends_well(source, target, t)
    assert target.call("GET", "acct:0") != before
    r.check(at_least=200)
    assert t.metric("snapshots") == 1


@pytest.mark.parametrize("what", ["mover killed", "source's link", "target's link"])
def test_outage_costs_what_it_missed(side, task, what):
    """After an outage only what came meanwhile goes over the link; no second snapshot."""
    source, target = side("source"), side("target")
    fill(source, 30_000, 1000)
    t = task(source, target)
    t.start()
    caught_up(source, target, t)
    read = 0
    if what != "mover killed":
        wait_for(lambda: t.run.metrics()["bytes_read"] > 10 << 20)  # told once a second
        read = t.run.metrics()["bytes_read"]
    offset = int(source.primary.connect().info("replication")["master_repl_offset"])
    outage_s = 10 if what == "mover killed" else 4
    load = Counted(source, 6000 * outage_s, 6000)
    if what == "mover killed":
        t.kill()
    for p in {"mover killed": [], "source's link": source.proxies,
              "target's link": target.proxies}[what]:
        p.refuse = True
        p.cut()
    time.sleep(outage_s)
    for p in source.proxies + target.proxies:
        p.refuse = False
    if what == "mover killed":
        t.start()
    load.join(30)
    ends_well(source, target, t)
    load.assert_exact(target)
    with source.primary.connect() as c:
        missed = int(c.info("replication")["master_repl_offset"]) - offset
        assert int(c.info("stats")["sync_full"]) == 1
    assert t.metric("bytes_read") - read < missed * 1.2 + (1 << 20)
    assert t.metric("snapshots") == 1


# -- what comes too late --------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["link given up", "mover killed", "target stopped"])
def test_late_delivery(side, task, how):
    """A batch that reaches the target after its connection was given up comes to nothing."""
    source, target = side("source"), side("target")
    t = task(source, target)
    t.start()
    caught_up(source, target, t)
    load = Counted(source, 30_000, 6000)
    time.sleep(0.5)
    if how == "target stopped":
        target.primary.pause()
    else:
        target.proxies[0].hoard("up")
    time.sleep(0.3)
    if how == "mover killed":
        t.kill()
        t.start()
        time.sleep(1)
    else:
        time.sleep(IO_TIMEOUT_S + 1)
    target.primary.cont()
    target.proxies[0].release()
    load.join(30)
    ends_well(source, target, t)
    load.assert_exact(target)


def test_late_deletion(side, task):
    """What a new snapshot lacks is deleted over a connection that is given up; its deletions reach
    the target when the key has long come back."""
    source, target = side("source", config={"repl-backlog-size": "16kb"}), side("target")
    fill(source, 2000)
    source.call("SET", "back", "then")
    t = task(source, target)
    t.start()
    caught_up(source, target, t)
    source.proxies[0].refuse = True
    source.proxies[0].cut()
    with source.primary.connect() as c:
        c.call("DEL", "back")
        c.feed(("SET", "noise", os.urandom(20_000)) for _ in range(50))
    p = target.proxies[0]
    p.hold_behind["up"] = b"UNLINK\r\n"
    source.proxies[0].refuse = False
    wait_for(lambda: not p.hold_behind)
    caught_up(source, target, t)
    source.call("SET", "back", "now")
    caught_up(source, target, t)
    p.release()
    time.sleep(0.3)
    ends_well(source, target, t)
    assert t.metric("snapshots") == 2


# -- history lost ---------------------------------------------------------------------------------
def never_empty(size, keep):
    """What a reader expects of the target while it is loaded again."""
    names = ["keep:%d" % i for i in range(keep)]

    def look(c):
        values = c.call("MGET", *names)
        if values != [x.encode() for x in names]:
            return "%d of %d lasting keys" % (sum(v is not None for v in values), keep)
        n = c.call("DBSIZE")
        if n < size:
            return "%d keys" % n
    return look


@pytest.mark.parametrize("how", ["mover killed", "link"])
def test_backlog_lost(side, task, reader, how):
    """A new snapshot, reconciled: what was deleted meanwhile is deleted, what was never the task's
    stays, the target is readable all the time."""
    source = side("source", config={"repl-backlog-size": "16kb"})
    target = side("target")
    fill(source)
    put_foreign(target)
    with source.primary.connect() as c:
        c.feed(("SET", "keep:%d" % i, "keep:%d" % i) for i in range(50))
    t = task(source, target, "--on-conflict", "fail")
    t.start()
    caught_up(source, target, t)
    r = reader(target, never_empty(14_000, 50))
    if how == "mover killed":
        t.kill()
    source.proxies[0].refuse = True
    source.proxies[0].cut()
    with source.primary.connect() as c:
        c.feed(("DEL", "key:%d" % i) for i in range(0, 20_000, 4))
        c.pipeline([("DEL", "list:1"), ("SET", "list:1", "now a string"), ("DEL", "key:1"),
                    ("RPUSH", "key:1", "now a list"), ("PEXPIRE", "key:2", 10**7),
                    ("RPUSH", "list:2", "one more"), ("LPOP", "list:3"),
                    ("RENAME", "list:4", "list:renamed")])
        c.feed(("SET", "noise", os.urandom(20_000)) for _ in range(50))
    source.proxies[0].refuse = False
    if how == "mover killed":
        t.start()
    said = t.run
    ends_well(source, target, t, ignore=FOREIGN)
    assert target.call("EXISTS", "key:0", "key:4", "list:4") == 0
    assert_foreign(target)
    r.check(at_least=20)
    assert t.metric("snapshots") == 2
    assert "snapshot" in said.said.lower(), said.said


@pytest.mark.parametrize("what", ["mover killed", "target crashes", "target's link",
                                  "source's link", "source crashes"])
def test_interrupted_snapshot(side, task, what):
    """Loaded again, and nothing is refused as there already because an earlier attempt wrote it."""
    source, target = side("source"), side("target")
    fill(source, 30_000, 300)
    put_foreign(target)
    t = task(source, target, "--on-conflict", "fail")
    p = (source if what.startswith("source") else target).proxies[0]
    p.bytes_per_s = 2 << 20
    t.start()

    def some_keys():
        """the load has begun"""
        t.check()
        return target.call("DBSIZE") > 1000
    wait_for(some_keys, 20)
    assert target.call("DBSIZE") < 20_000
    if what == "mover killed":
        t.kill()
        t.start()
    elif what.endswith("crashes"):
        (source if what.startswith("source") else target).crash(0.5)
    else:
        (source if what.startswith("source") else target).proxies[0].cut(reset=True)
    time.sleep(0.5)
    p.bytes_per_s = 0
    with source.primary.connect() as c:
        c.feed(("INCR", "n") for _ in range(1000))
    ends_well(source, target, t, ignore=FOREIGN)
    assert_foreign(target)


# -- what the source is told ----------------------------------------------------------------------
def test_wait(side, task):
    """WAIT on the source: the write is on the target, not only on its way."""
    source, target = side("source"), side("target")
    t = task(source, target)
    t.start()
    caught_up(source, target, t)
    with source.primary.connect() as s, target.primary.connect() as d:
        for i in range(20):
            s.call("SET", "waited", i)
            assert s.call("WAIT", 1, 5000) == 1
            assert d.call("GET", "waited") == b"%d" % i
        target.primary.pause()
        try:
            s.call("SET", "waited", "not there yet")
            assert s.call("WAIT", 1, 1200) == 0
        finally:
            target.primary.cont()
        assert s.call("WAIT", 1, 10_000) == 1
        assert d.call("GET", "waited") == b"not there yet"
    ends_well(source, target, t)


# -- one at a time --------------------------------------------------------------------------------
def test_second_process_of_a_task(side, task):
    """The same task again, while it runs: refused, and the first goes on."""
    source, target = side("source"), side("target")
    first = task(source, target)
    first.start()
    caught_up(source, target, first)
    second = task(source, target, name="chaos", state_dir=first.state_dir)
    second.folder = os.path.join(second.folder, "second")
    with second.lock:
        second.start()
        second.wanted = False
    assert second.run.wait(15) not in (0, None)
    assert "runs already" in second.run.said, second.run.said
    source.call("INCR", "n")
    ends_well(source, target, first)


def test_taken_over_from_another_machine(side, task):
    """The same task with a state of its own takes over; the one before ends with an error, and
    nothing is done twice."""
    source, target = side("source"), side("target")
    fill(source, 3000)
    a = task(source, target)
    b = task(source, target, state_dir=a.state_dir + "-of-b")
    b.folder = os.path.join(b.folder, "b")
    a.start()
    caught_up(source, target, a)
    load = Counted(source, 80_000, 8000)
    time.sleep(2)
    a.wanted = False
    b.start()
    assert a.run.wait(20) not in (0, None), "the one before has not noticed"
    assert "another" in a.run.said.lower() or "took" in a.run.said.lower(), a.run.said
    load.join(30)
    ends_well(source, target, b)
    load.assert_exact(target)


def test_taken_over_while_the_fence_is_on_its_way(side, task):
    """Of what the one before has sent, the network delivers up to an EXEC; the rest, with the WATCH
    that is to fence the next batch, comes when another process has taken over and gone on."""
    source, target = side("source"), side("target")
    a = task(source, target)
    b = task(source, target, state_dir=a.state_dir + "-of-b")
    b.target_uri = target.primary.uri()  # not by the way that is held up
    b.folder = os.path.join(b.folder, "b")
    a.start()
    caught_up(source, target, a)
    load = Counted(source, 60_000, 8000)
    time.sleep(1)
    p = target.proxies[0]
    p.hold_behind["up"] = encode(("EXEC",))
    wait_for(lambda: not p.hold_behind)
    a.wanted = False
    b.start()
    time.sleep(1)
    p.release()
    assert a.run.wait(20) not in (0, None), "the one before has not noticed"
    load.join(30)
    ends_well(source, target, b)
    load.assert_exact(target)


# -- no memory ------------------------------------------------------------------------------------
def scattered(n):
    """Commands of several databases, each of which tells when it is lost, run twice, or run in
    another database; some remove what the next one needs gone."""
    dbs = (5, 1, 0)
    for i in range(n):
        db, other = dbs[i // 9 % 3], dbs[(i // 9 + 1) % 3]
        if i % 9 == 0:
            yield "SELECT", db
        yield from ([("INCR", "n")], [("RPUSH", "log", i)], [("DEL", "gone")], [("INCR", "gone")],
                    [("XADD", "x", "*", "i", i)], [("SREM", "s", i - 9)], [("SADD", "s", i)],
                    [("MULTI",), ("INCR", "n"), ("SELECT", other), ("DECR", "n"), ("SELECT", db),
                     ("EXEC",)], [("APPEND", "a", "%d," % i)])[i % 9]


@pytest.mark.parametrize("how", ["", "killed", "stopped", "link cut", "killed half way"])
def test_taken_apart(side, task, how):
    """The target has no memory: what is on its way is sent one by one, each where it belongs."""
    source, target = side("source"), side("target")
    t = task(source, target)
    t.start()
    caught_up(source, target, t)

    def full(yes):
        target.call("CONFIG", "SET", "maxmemory", 1 << 20 if yes else 0)

    with source.primary.connect() as c:
        c.feed(scattered(100))
        caught_up(source, target, t)
        full(True)
        t.run.proc.send_signal(signal.SIGSTOP)
        c.feed(scattered(1800))  # less than a batch
        t.run.proc.send_signal(signal.SIGCONT)
    wait_for(lambda: "one by one" in t.run.said, 10)
    if how == "killed half way":
        full(False)
        wait_for(lambda: target.call("LLEN", "log") > 8, 10)
        full(True)
    if how.startswith("killed"):
        t.kill()
    elif how == "stopped":
        assert t.terminate() == 1, t.run.said
        assert "not applied" in t.run.said, t.run.said
    elif how == "link cut":
        target.proxies[0].cut(reset=True)
    done = target.call("LLEN", "log")
    assert done < source.call("LLEN", "log")
    if not t.wanted:
        t.start()
    time.sleep(0.3)
    full(False)
    ends_well(source, target, t)
    assert t.metric("snapshots") == 1


# -- no room --------------------------------------------------------------------------------------
@pytest.mark.parametrize("limit", ["quota", "disk"])
def test_spool_full(side, task, cleanup, limit):
    """The spool is full: the source is held back, it is said, and nothing is lost."""
    if limit == "disk" and not SmallDisk.possible():
        pytest.skip("only root can make a small disk")
    things, folder = cleanup
    source, target = side("source"), side("target")
    options = ["--spool-max", "8M"]
    if limit == "disk":
        disk = SmallDisk(os.path.join(folder, "disk"), "8m")
        things.append(disk)
        options = ["--spool-dir", disk.path, "--spool-max", "1G"]
    t = task(source, target, *options)
    t.start()
    caught_up(source, target, t)
    target.primary.pause()
    load = Counted(source, 4000, 2000)
    with source.primary.connect() as c:
        c.feed(("RPUSH", "big", os.urandom(100_000)) for _ in range(600))
    time.sleep(IO_TIMEOUT_S + 1)
    t.check()
    target.primary.cont()
    load.join(30)
    ends_well(source, target, t)
    load.assert_exact(target)
    assert "spool" in t.run.said.lower(), t.run.said
