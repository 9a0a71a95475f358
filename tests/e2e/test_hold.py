# SPDX-License-Identifier: BSD-3-Clause
# Held deadlines: while the target lags no key dies there before the change that renews it, however
# the key travels meanwhile; afterwards every deadline is exact.
import time

from lib.compare import assert_equal
from lib.resp import wait_for

FAR_MS = 100 * 365 * 86_400_000


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
