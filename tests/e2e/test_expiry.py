# SPDX-License-Identifier: BSD-3-Clause
# Time to live: exact to the millisecond however long the data waited (C8).
import struct
import threading
import time

import pytest

from lib.compare import assert_equal
from lib.dataset import Sizes, fill
from lib.fakeprimary import rdb_file, rdb_string_record
from lib.resp import wait_for


def now_ms():
    return int(time.time() * 1000)


# Commands with relative times as sources before 7.0 stream them; all give the key 100 s.
RELATIVE = [
    ("SET", "set-ex", "v", "EX", "100"),
    ("set", "set-px", "v", "px", "100000"),
    ("SET", "set-nx-ex", "v", "NX", "EX", "100"),
    ("SET", "set-ex-first", "v", "EX", "100", "NX"),
    ("SETEX", "setex", "100", "v"),
    ("PSETEX", "psetex", "100000", "v"),
    ("EXPIRE", "expire", "100"),
    ("PEXPIRE", "pexpire", "100000"),
    ("expire", "expire-gt", "100", "GT"),
    ("GETEX", "getex-ex", "EX", "100"),
    ("GETEX", "getex-px", "PX", "100000"),
]


@pytest.mark.parametrize("stalled", [False, True], ids=["at once", "target paused"])
def test_relative_times(fake, target, keyhaul, stalled):
    f = fake()
    k = keyhaul(f, target)
    f.stream(("SELECT", "0"), ("SET", "first", "1"))
    wait_for(lambda: target.call("GET", "first") == b"1")
    dump = target.call("DUMP", "first")
    if stalled:
        target.pause()
    for c in RELATIVE:
        if c[0].upper() in ("EXPIRE", "PEXPIRE", "GETEX"):
            f.stream(("SET", c[1], "v"))
    f.stream(("PEXPIRE", "expire-gt", "50000"))
    time.sleep(0.05)
    before = now_ms()
    f.stream(*RELATIVE, ("RESTORE", "restore", "100000", dump),
             ("MULTI",), ("SET", "in-tx", "v"), ("EXPIRE", "in-tx", "100"), ("EXEC",))
    after = now_ms()
    time.sleep(3 if stalled else 0.2)
    target.cont()
    f.stream(("SET", "last", "1"))
    wait_for(lambda: target.call("GET", "last") == b"1")
    names = [c[1] for c in RELATIVE] + ["restore", "in-tx"]
    with target.connect() as c:
        far = 1 << 45  # deadlines are held until all has caught up
        wait_for(lambda: all(c.call("PEXPIRETIME", n) < far for n in names))
        got = {n: c.call("PEXPIRETIME", n) - 100_000 for n in names}
    late = {n: t - after for n, t in got.items() if not before - 20 <= t <= after + 250}
    assert not late, late
    assert k.terminate() == 0


def test_absolute_times_pass_unchanged(fake, target, keyhaul):
    f = fake()
    k = keyhaul(f, target)
    s = now_ms() // 1000 + 500
    ms = s * 1000 + 123
    f.stream(("SELECT", "0"), ("SET", "expireat", "v"), ("EXPIREAT", "expireat", str(s)),
             ("SET", "pexpireat", "v"), ("PEXPIREAT", "pexpireat", str(ms)),
             ("SET", "set-exat", "v", "EXAT", str(s)), ("SET", "set-pxat", "v", "PXAT", str(ms)),
             ("SET", "getex-exat", "v"), ("GETEX", "getex-exat", "EXAT", str(s)),
             ("SET", "getex-pxat", "v"), ("GETEX", "getex-pxat", "PXAT", str(ms)),
             ("SET", "kept", "v", "PXAT", str(ms)), ("SET", "kept", "w", "KEEPTTL"),
             ("SET", "persisted", "v", "PXAT", str(ms)), ("GETEX", "persisted", "PERSIST"),
             # names and values that look like options are no options
             ("SET", "EX", "100"), ("SET", "PX", "EX"), ("APPEND", "SETEX", "EX"),
             ("SET", "last", "1"))
    wait_for(lambda: target.call("GET", "last") == b"1")
    with target.connect() as c:
        for n in ("expireat", "set-exat", "getex-exat"):
            assert c.call("PEXPIRETIME", n) == s * 1000, n
        for n in ("pexpireat", "set-pxat", "getex-pxat"):
            assert c.call("PEXPIRETIME", n) == ms, n
        assert c.call("PEXPIRETIME", "kept") == ms and c.call("GET", "kept") == b"w"
        assert c.call("PTTL", "persisted") == -1
        assert c.call("MGET", "EX", "PX", "SETEX") == [b"100", b"EX", b"EX"]
    assert k.terminate() == 0


@pytest.mark.parametrize("renew", [("PERSIST", "renewed"), ("PEXPIRE", "renewed", 3_600_000)],
                         ids=["persist", "pexpire"])
@pytest.mark.parametrize("big", [False, True], ids=["small", "big"])
def test_key_renewed_while_the_load_waits(source, target, keyhaul, proxy, renew, big):
    """Its time in the snapshot is over before it is loaded, but the stream renews it."""
    with source.connect() as c:
        if big:
            c.feed(("HSET", "renewed", "f%d" % i, "x" * 100) for i in range(30_000))
        else:
            c.call("SET", "renewed", "v")
        c.feed(("SET", "other:%d" % i, "x" * 100) for i in range(5000))
        p = proxy(target)
        c.call("PEXPIRE", "renewed", 2500)
        begun = time.monotonic()
        p.bytes_per_s = 40_000  # checks pass, the load hardly begins
        k = keyhaul(source, target, target_uri=p.uri())

        def snapshot_left():
            """the source has made its snapshot"""
            k.alive()
            return "state=online" in c.info("replication").get("slave0", "")
        wait_for(snapshot_left, 10)
        p.stall("up")
        assert time.monotonic() - begun < 2.3, "too slow a machine for this test"
        c.call(*renew)
        time.sleep(max(0, 2.8 - (time.monotonic() - begun)))
        p.bytes_per_s = 0
        p.resume()
    k.finish()
    assert_equal(source, target)
    assert target.call("EXISTS", "renewed") == 1


def test_short_lives(source, target, keyhaul):
    """Keys that run out while all goes on are gone on both sides in the end."""
    with source.connect() as c:
        c.feed(("SET", "short:%d" % i, "v", "PX", 200 + i) for i in range(2000))
        k = keyhaul(source, target)
        k.wait_caught_up()
        c.feed(("SET", "later:%d" % i, "v", "PX", 100 + i) for i in range(2000))
        c.feed(("SET", "short:%d" % i, "again", "XX") for i in range(0, 2000, 3))
    time.sleep(2.3)
    k.finish()
    assert_equal(source, target)


RENEWALS = [("PERSIST",), ("PEXPIRE", 3_600_000), ("SET", "again", "KEEPTTL"), ("INCR",),
            ("PEXPIRE", 900)]


def test_renewed_in_the_last_millisecond(source, target, keyhaul):
    """While the application writes, keys are renewed as late as can be, some when the source has
    just missed it; and the target stands still now and again."""
    n = 3000
    k = keyhaul(source, target)
    k.wait_caught_up()
    with source.connect() as c:
        first = now_ms() + 400
        c.feed(("SET", "k:%d" % i, i, "PXAT", first + i) for i in range(n))
        stalls = [(first + at, first + at + ms) for at, ms in ((300, 5), (700, 250), (1600, 800))]
        paused = False
        done = 0
        while done < n:
            now = now_ms()
            if paused != any(a <= now < b for a, b in stalls):
                paused = not paused
                (target.pause if paused else target.cont)()
            while done < n and first + done <= now + 1:
                what, *args = RENEWALS[done % len(RENEWALS)]
                c.call(what, "k:%d" % done, *args)
                done += 1
            c.call("SET", "tick", now)
        target.cont()
        left = c.call("DBSIZE")
    time.sleep(1.2)
    k.finish()
    assert left > n // 4, "too slow a machine for this test"
    assert_equal(source, target)


def test_caught_up_under_load(source, target, keyhaul):
    """Deadlines that are held are no reason not to have caught up, nor is a source that writes
    without a pause."""
    stop = threading.Event()

    def pour():
        with source.connect() as c:
            n = 0
            while not stop.is_set():
                c.feed(("SET", "k:%d" % (n + i), "v", "PX", 500) for i in range(2000))
                n += 2000

    writer = threading.Thread(target=pour)
    writer.start()
    try:
        k = keyhaul(source, target)
        k.wait_metric(lambda m: m["phase"] == "stream", 20)
        other = keyhaul(source, target, "--task", "other", "--on-conflict", "overwrite",
                                "--until", "caught-up", "--db", "1")
        other.expect(0, "caught up")
    finally:
        stop.set()
        writer.join()
    k.finish()
    assert_equal(source, target)


def test_expired_in_the_snapshot(fake, target, keyhaul):
    """Keys whose time was over when the snapshot was made are not brought back to life."""
    past = struct.pack("<q", now_ms() - 1000)
    future = struct.pack("<q", now_ms() + 600_000)
    body = (b"\xfc" + past + rdb_string_record("old", "v") +
            b"\xfc" + future + rdb_string_record("young", "v") +
            b"\xfd" + struct.pack("<i", now_ms() // 1000 + 600) + rdb_string_record("seconds", "v") +
            rdb_string_record("plain", "v"))
    f = fake(rdb=rdb_file(body))
    k = keyhaul(f, target)
    # the primary deletes what ran out: a replica waits for this
    f.stream(("SELECT", "0"), ("DEL", "old"), ("SET", "last", "1"))
    wait_for(lambda: target.call("GET", "last") == b"1")
    with target.connect() as c:
        assert c.call("EXISTS", "old") == 0
        # deadlines are held until all has caught up
        wait_for(lambda: c.call("PEXPIRETIME", "young") == struct.unpack("<q", future)[0])
        assert c.call("PEXPIRETIME", "seconds") % 1000 == 0
        assert c.call("PTTL", "plain") == -1
    assert k.terminate() == 0


def test_time_of_a_long_stalled_stream(source, target, keyhaul):
    """7.0 sends absolute times: a pause of the target changes nothing."""
    fill(source, Sizes(small_keys=100), dbs=[0])
    k = keyhaul(source, target)
    k.wait_caught_up()
    target.pause()
    with source.connect() as c:
        c.feed(("SET", "e:%d" % i, "v", "EX", 600 + i) for i in range(500))
        c.feed(("PEXPIRE", "key:0:%d" % i, 700_000 + i) for i in range(100))
    time.sleep(1.5)
    target.cont()
    k.finish()
    assert_equal(source, target)
