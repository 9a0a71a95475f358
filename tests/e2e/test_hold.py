# SPDX-License-Identifier: BSD-3-Clause
# Held deadlines: while the target lags no key dies there before the change that renews it, however
# the key travels meanwhile; afterwards every deadline is exact.
import os
import signal
import time

import pytest

from lib.compare import assert_equal
from lib.resp import wait_for
from lib.server import binary_version, find_servers

FAR_MS = 100 * 365 * 86_400_000
CHECKPOINT = b"keyhaul:checkpoint:"


def count_keys(target):
    """DBSIZE, but for keyhaul's own key."""
    with target.connect() as c:
        return sum(not k.startswith(CHECKPOINT) for k in c.call("KEYS", "*"))


def no_deadline_is_held(target):
    for db in range(16):
        with target.connect(db) as c:
            for key in c.call("KEYS", "*"):
                assert c.call("PTTL", key) < FAR_MS, (db, key)


def ways_to_travel(c, c3):
    """Everything that takes a deadline along, or judges it."""
    c.call("RENAME", "renamed", "renamed:to")
    c.call("PEXPIRE", "renamed:to", 3_000_000)
    c.call("RENAME", "renamed:kept", "renamed:kept:to")
    c.call("RENAMENX", "renamednx", "renamednx:to")
    c.call("COPY", "copied", "copied:to")
    c.call("COPY", "copied", "copied:db", "DB", 3)
    c.call("MOVE", "moved", 3)
    c.call("SET", "keepttl", "w", "KEEPTTL")
    c.call("PEXPIRE", "greater", 4_000_000, "GT")
    c.call("PEXPIRE", "less", 1_000_000, "LT")
    c.call("PERSIST", "persisted")
    c.call("SET", "overwritten", "w")
    c.call("DEL", "deleted")
    c.call("GETEX", "getex", "EX", 5000)
    c.call("APPEND", "appended", "w")
    c3.call("SET", "in three", "v", "EX", 700)


KEYS = ["renamed", "renamed:kept", "renamednx", "copied", "moved", "keepttl", "greater", "less",
        "persisted", "overwritten", "deleted", "getex", "appended", "untouched"]


def test_held_in_the_load(source, target, keyhaul, proxy):
    """Deadlines within minutes are held from the snapshot on; the changes come while it waits."""
    p = proxy(target)
    p.bytes_per_s = 40_000  # checks pass, the load hardly begins
    with source.connect() as c, source.connect(3) as c3:
        for i, key in enumerate(KEYS):
            c.call("SET", key, "v", "EX", 300 + i)
        c.feed(("SET", "other:%d" % i, "x" * 100) for i in range(3000))
        k = keyhaul(source, target, target_uri=p.uri())

        def snapshot_left():
            """the source has made its snapshot"""
            k.alive()
            return "state=online" in c.info("replication").get("slave0", "")
        wait_for(snapshot_left, 20)
        ways_to_travel(c, c3)
        c.call("SWAPDB", 0, 3)
        c.call("SWAPDB", 3, 5)
    p.bytes_per_s = 0
    k.finish()
    assert_equal(source, target)
    no_deadline_is_held(target)


def test_held_in_the_stream(source, target, keyhaul):
    """The target stands still: what is set and renewed meanwhile must survive its first deadline."""
    k = keyhaul(source, target)
    k.wait_caught_up()
    with source.connect() as c, source.connect(3) as c3:
        target.pause()
        try:
            c.call("SET", "first", "1")  # this batch is on its way; the rest waits behind it
            time.sleep(0.3)
            for i, key in enumerate(KEYS):
                c.call("SET", key, "v", "PX", 1500)
            c.call("SET", "gone", "v", "PX", 1200)
            c.call("SET", "renewed", "v")
            c.call("PEXPIRE", "renewed", 1200)
            ways_to_travel(c, c3)
            c.call("EXPIRE", "renewed", 900)
            c.call("SWAPDB", 0, 4)
            time.sleep(2)
        finally:
            target.cont()
    k.finish()
    assert_equal(source, target)
    no_deadline_is_held(target)
    assert target.connect(4).call("EXISTS", "renewed", "persisted", "greater", "gone") == 3


def test_held_when_stopped(source, target, keyhaul):
    """A stop before all is level must not leave deadlines thousands of years ahead."""
    with source.connect() as c:
        for i in range(2000):
            c.call("SET", "k:%d" % i, "v" * 50, "EX", 500)
    k = keyhaul(source, target)
    k.wait_metric(lambda m: m["keys_written"] > 0)
    assert k.terminate() == 0
    no_deadline_is_held(target)


def test_held_after_a_stall(source, target, keyhaul):
    """Caught up before, the target stands still for longer than the keys live: none may get its
    deadline while the change that renewed it still waits, however many there are."""
    n = 30_000
    k = keyhaul(source, target)
    k.wait_caught_up()
    with source.connect() as c:
        target.pause()
        try:
            c.call("SET", "first", "1")
            time.sleep(0.3)
            c.feed(("SET", "k:%d" % i, "v", "PX", 4000) for i in range(n))
            c.feed(("PEXPIRE", "k:%d" % i, 900_000 + i) for i in range(n))
            assert c.call("DBSIZE") == n + 1
            time.sleep(4.5)
        finally:
            target.cont()
    k.finish()
    assert count_keys(target) == n + 1
    assert_equal(source, target)
    no_deadline_is_held(target)


def test_held_in_long_commands(source, target, keyhaul):
    """Values that pass through in pieces are held as well."""
    value = os.urandom(5 << 20)
    k = keyhaul(source, target)
    k.wait_caught_up()
    with source.connect() as c:
        c.call("SET", "dumped", value)
        payload = c.call("DUMP", "dumped")
        target.pause()
        try:
            c.call("SET", "first", "1")
            time.sleep(0.3)
            c.call("SET", "px", value, "PX", 1500)
            c.call("SET", "exat", value, "EXAT", int(time.time()) + 2)
            c.call("PSETEX", "psetex", 1500, value)
            c.call("RESTORE", "restored", 1500, payload)
            c.call("SET", "gone", value, "PX", 1200)
            c.call("SET", "long", value, "PX", 3_600_000)
            for key in ("px", "exat", "psetex", "restored"):
                c.call("EXPIRE", key, 900)
            time.sleep(2.5)
        finally:
            target.cont()
    k.finish()
    assert target.call("EXISTS", "px", "exat", "psetex", "restored", "gone", "long") == 5
    assert_equal(source, target)
    no_deadline_is_held(target)


def test_held_when_stopped_within_a_large_value(source, target, keyhaul, proxy):
    """SIGTERM while a large value is on its way in pieces."""
    with source.connect() as c:
        c.feed(("SET", "k:%d" % i, "v" * 50, "EX", 500) for i in range(2000))
        for i in range(100):
            fields = [x for j in range(1000) for x in ("f%d:%d" % (i, j), os.urandom(200))]
            c.call("HSET", "hash", *fields)
        c.call("EXPIRE", "hash", 500)
    p = proxy(source)
    p.bytes_per_s = 8_000_000
    k = keyhaul(source, target, source_uri=p.uri())
    wait_for(lambda: target.call("HLEN", "hash") > 1000)
    p.bytes_per_s = 300_000  # from here on it waits for the source within the hash
    time.sleep(0.5)
    assert k.terminate() == 0, k.said
    assert target.call("HLEN", "hash") < 100_000
    no_deadline_is_held(target)


def test_held_when_the_source_is_lost(source, target, keyhaul, proxy):
    p = proxy(target)
    with source.connect() as c:
        c.feed(("SET", "k:%d" % i, "v" * 50, "EX", 500) for i in range(2000))
        k = keyhaul(source, target, "--retry-time", "2s", target_uri=p.uri())
        k.wait_caught_up()
        p.bytes_per_s = 20_000
        c.feed(("SET", "k:%d" % i, "w" * 50, "PX", 60_000 + i) for i in range(2000))
        time.sleep(0.5)
    source.kill()
    p.bytes_per_s = 0
    assert k.wait() == 1
    no_deadline_is_held(target)


@pytest.mark.parametrize("again", ["resumed", "loaded again"])
def test_held_when_killed(source, target, keyhaul, proxy, tmp_path, again):
    """kill -9 leaves deadlines held; the next run finds them, also those of keys that nothing
    touches any more."""
    task = ("--task", "held", "--state-dir", tmp_path)
    with source.connect() as c, source.connect(3) as c3:
        c.feed(("SET", "k:%d" % i, "v", "EX", 60 + i % 40) for i in range(5000))
        c3.feed(("SET", "k:%d" % i, "v", "EX", 60 + i % 40) for i in range(500))
        c.call("SET", "year 9999", "v", "PXAT", 253402300799000)
        p = proxy(target)
        k = keyhaul(source, target, *task, target_uri=p.uri())
        if again == "resumed":
            # never quiet, so nothing is settled
            end = time.monotonic() + 2
            while time.monotonic() < end:
                c.call("INCR", "n")
                time.sleep(0.01)
            assert k.phase() == "stream"
        else:
            p.bytes_per_s = 100_000
            k.wait_metric(lambda m: m["keys_written"] > 100)
        k.terminate(sig=signal.SIGKILL)
        p.cut()
        with target.connect() as t:
            assert any(t.call("PTTL", key) > FAR_MS for key in t.call("KEYS", "k:*"))
        p.bytes_per_s = 0
        c.call("RENAME", "k:1", "renamed")
        c.call("EXPIRE", "k:2", 3000)
        k = keyhaul(source, target, *task, target_uri=p.uri())
        k.wait_caught_up()
        held = ("k:3", "k:4999", "renamed")
        wait_for(lambda: all(target.call("PTTL", key) < FAR_MS for key in held))
        k.finish()
    assert_equal(source, target)
    with target.connect() as t:
        t.call("DEL", "year 9999")
    no_deadline_is_held(target)


OLDER = [n for n in find_servers() if binary_version(find_servers()[n])[1] < (7, 0, 0)]


@pytest.mark.parametrize("name", OLDER)
def test_held_on_targets_without_pexpiretime(servers, source, server, keyhaul, name):
    """They tell only the time that is left: deadlines must be exact all the same."""
    target = server("target", binary=servers[name])
    with source.connect() as c:
        c.feed(("SET", "k:%d" % i, "v", "PX", 100_000 + i) for i in range(3000))
        c.feed(("SET", "far:%d" % i, "v", "PXAT", 253402300799000) for i in range(10))
        k = keyhaul(source, target)
        k.wait_caught_up()
        target.pause()
        try:
            c.call("SET", "first", "1")
            time.sleep(0.3)
            for i in range(3000):
                c.call("PEXPIRE", "k:%d" % i, 1500)
            c.feed(("PEXPIRE", "k:%d" % i, 90_000 + i) for i in range(3000))
            c.call("RENAME", "k:1", "renamed")
            c.call("MOVE", "k:2", 3)
            c.call("RENAME", "far:1", "far:renamed")
            time.sleep(2)
        finally:
            target.cont()
        k.finish()
        assert count_keys(target) == c.call("DBSIZE")
    # deadlines cannot be asked for: whole dumps of the two clocks, read one after the other
    off = []
    with source.connect() as s, target.connect() as t:
        for key in s.call("KEYS", "*"):
            if not key.startswith(b"far:"):
                off.append(t.call("PTTL", key) - s.call("PTTL", key))
            else:
                assert t.call("PTTL", key) > FAR_MS
    assert max(off) <= 20 and sorted(off)[len(off) // 2] in (0, 1), (min(off), max(off))
    with target.connect() as t:
        assert not [key for key in t.call("KEYS", "k:*") if t.call("PTTL", key) > FAR_MS]
