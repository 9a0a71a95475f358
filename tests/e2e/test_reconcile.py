# SPDX-License-Identifier: BSD-3-Clause
# A snapshot once more, because the source's backlog no longer reaches back: the target ends equal,
# is not emptied, and keeps what was never the task's.
import glob
import os
import random
import shutil
import time

import pytest

from lib.compare import assert_equal
from lib.dataset import Sizes, fill
from lib.faultproxy import FaultProxy

SMALL = Sizes(small_keys=4000, string_bytes=9 << 20, hash_fields=60_000, list_items=60_000,
              set_members=60_000, zset_members=60_000, stream_entries=20_000)
FOREIGN = [b"foreign:%d" % i for i in range(300)] + [b"f", b"\0\r\n\xff", b"f" * 5000]
LIBRARY = "#!lua name=%s\nredis.register_function('%s', function() return '%s' end)"


@pytest.fixture
def short(server):
    """A source that keeps hardly anything of its stream."""
    return server("source", config={"repl-backlog-size": "16kb"})


class Task:
    """Runs of one task, one after the other."""

    def __init__(self, keyhaul, source, target, folder, *options):
        self.keyhaul, self.source, self.target = keyhaul, source, target
        self.state_dir = os.path.join(folder, "state")
        self.options = options

    def start(self, **kw):
        self.run = self.keyhaul(self.source, self.target, "--task", "t", "--state-dir",
                                self.state_dir, *self.options, **kw)
        return self.run

    def catch_up(self):
        self.start().wait_caught_up()

    def kill(self):
        self.run.alive()
        self.run.proc.kill()
        self.run.wait()

    def lose(self, change=None):
        """Killed; what the source does then, its backlog forgets."""
        self.kill()
        if change:
            change()
        with self.source.connect() as c:
            c.feed(("SET", "noise", os.urandom(20_000)) for _ in range(60))

    def end(self):
        """Caught up by one more snapshot, ended in order."""
        self.catch_up()
        assert self.run.terminate() == 0, self.run.said
        assert "not emptied" in self.run.said
        return self.run.metrics()

    def folder(self):
        return os.path.join(self.state_dir, "t")


@pytest.fixture
def task(short, target, keyhaul, cleanup):
    def make(*options):
        return Task(keyhaul, short, target, cleanup[1], *options)
    return make


def put_foreign(server, dbs=(0, 3, 14)):
    for db in dbs:
        with server.connect(db) as c:
            c.feed(("SET", k, b"mine") for k in FOREIGN)


def assert_foreign(server, dbs=(0, 3, 14)):
    for db in dbs:
        with server.connect(db) as c:
            assert c.call("MGET", *FOREIGN) == [b"mine"] * len(FOREIGN)


def used_memory(server):
    with server.connect() as c:
        return int(c.info("memory")["used_memory"])


def scramble(server, rng):
    """Deletes, renames, retypes, shortens and moves keys of every kind at random."""
    for db in (0, 3):
        with server.connect(db) as c:
            keys = sorted(c.call("KEYS", "*"))
            rng.shuffle(keys)
            parts = [keys[i::6] for i in range(6)]
            c.feed(("DEL", k) for k in parts[0])
            c.feed(("RENAME", k, b"renamed:" + k[:100]) for k in parts[1])
            c.feed(("RENAME", a, b) for a, b in zip(parts[2][::2], parts[2][1::2]))
            c.feed(("PEXPIRE", k, rng.randrange(10**6, 10**9)) for k in parts[3])
            c.feed(("PERSIST", k) for k in parts[4][::2])
            c.feed(("MOVE", k, 7) for k in parts[4][1::2])
            for k in parts[5][:50]:
                c.pipeline([("DEL", k), ("RPUSH", k, "now", "a", "list")])


@pytest.mark.parametrize("seed", [1, 2])
def test_every_kind_of_change(short, target, task, seed):
    fill(short, SMALL, dbs=[0, 3], seed=seed)
    put_foreign(target)
    t = task()
    t.catch_up()
    rng = random.Random(seed)
    t.lose(lambda: scramble(short, rng))
    m = t.end()
    assert m["keys_deleted"] > 500
    assert_foreign(target)
    assert_equal(short, target, ignore=FOREIGN)
    assert target.call("EXISTS", "foreign:0", db=14) == 1


def test_killed_in_every_stretch_of_the_load(short, target, keyhaul, cleanup):
    """Again and again cut off, also in the midst of large values."""
    things, folder = cleanup
    fill(short, SMALL, dbs=[0, 3])
    put_foreign(target)
    slow = FaultProxy(target.address)
    things.append(slow)
    slow.bytes_per_s = 6 << 20
    t = Task(keyhaul, short, target, folder)
    stages = set()
    for part in range(1, 9):
        t.start(target_uri="redis://127.0.0.1:%d" % slow.port)
        time.sleep(part * 0.35)
        if t.run.status() is None and not t.run.metrics().get("caught_up_ms"):
            stages.add(used_memory(target) >> 21)
        t.kill()
        if part == 5:
            scramble(short, random.Random(9))
    assert len(stages) >= 3, stages
    slow.bytes_per_s = 0
    t.start(target_uri="redis://127.0.0.1:%d" % slow.port).wait_caught_up()
    assert t.run.terminate() == 0, t.run.said
    assert_foreign(target)
    assert_equal(short, target, ignore=FOREIGN)


def test_mapped_databases(short, target, task):
    for db in range(6):
        with short.connect(db) as c:
            c.feed(("SET", "key:%d" % i, db) for i in range(300))
        with target.connect(db) as c:
            c.feed(("SET", k, "mine") for k in FOREIGN)
    t = task("--db", "0,1,4", "--db-map", "0:5,1:0")
    t.start()
    t.run.wait_metric(lambda m: m.get("caught_up_ms"))

    def change():
        for db in range(6):
            with short.connect(db) as c:
                c.feed(("DEL", "key:%d" % i) for i in range(100))
    t.lose(change)
    t.start()
    t.run.wait_metric(lambda m: m.get("caught_up_ms"))
    assert t.run.terminate() == 0, t.run.said
    assert_foreign(target, range(6))
    for db, of in ((0, 1), (1, None), (2, None), (3, None), (4, 4), (5, 0)):
        with target.connect(db) as c:
            keys = [k for k in c.call("KEYS", "key:*")]
            assert sorted(keys) == sorted(b"key:%d" % i for i in range(100, 300) if of is not None)
            assert not keys or c.call("GET", "key:100") == b"%d" % of


def test_overwritten_keys_are_the_tasks(short, target, task):
    """What stood there and was written over goes when the source deletes it."""
    with short.connect() as c:
        c.feed(("SET", "key:%d" % i, "source") for i in range(1000))
    with target.connect() as c:
        c.feed(("SET", "key:%d" % i, "target") for i in range(500, 1500))
    t = task("--on-conflict", "overwrite")
    t.catch_up()

    def change():
        with short.connect() as c:
            c.feed(("DEL", "key:%d" % i) for i in range(0, 1000, 2))
    t.lose(change)
    t.end()
    assert_equal(short, target, ignore=[b"key:%d" % i for i in range(1000, 1500)])
    with target.connect() as c:
        assert c.call("MGET", *["key:%d" % i for i in range(1000, 1500)]) == [b"target"] * 500


def test_skipped_keys_stay(short, target, task):
    short.call("SET", "both", "source")
    short.call("SET", "own", 1)
    target.call("SET", "both", "target")
    target.call("SET", "later", "target")
    t = task("--on-conflict", "skip")
    t.catch_up()

    def change():
        short.call("SET", "own", 2)
        short.call("SET", "later", "source")
        short.call("SET", "new", "source")
    t.lose(change)
    t.end()
    assert target.call("MGET", "both", "later", "own", "new") == [b"target", b"target", b"2",
                                                                  b"source"]


def test_new_conflict_is_told(short, target, task):
    short.call("SET", "own", 1)
    target.call("SET", "later", "target")
    t = task()
    t.catch_up()
    t.lose(lambda: short.call("SET", "later", "source"))
    t.start().expect(3, '"later".*stood on the target before', "--restart")
    assert target.call("GET", "later") == b"target"
    target.call("DEL", "later")  # as it says
    t.catch_up()
    assert t.run.terminate() == 0
    assert_equal(short, target)


def test_libraries(short, target, task):
    if not short.since((7, 0)):
        pytest.skip("no functions")
    for name in ("stays", "goes", "old"):
        short.call("FUNCTION", "LOAD", LIBRARY % (name, "f_" + name, name))
    target.call("FUNCTION", "LOAD", LIBRARY % ("mine", "f_mine", "mine"))
    t = task()
    t.catch_up()

    def change():
        short.call("FUNCTION", "DELETE", "goes")
        short.call("FUNCTION", "DELETE", "old")
        short.call("FUNCTION", "LOAD", LIBRARY % ("new", "f_old", "new"))
    t.lose(change)
    t.end()
    assert target.call("FCALL", "f_old", 0) == b"new"
    assert target.call("FCALL", "f_stays", 0) == b"stays"
    target.call("FUNCTION", "DELETE", "mine")  # it was still there
    assert_equal(short, target)


def test_swapped_databases(short, target, task):
    """What stood there goes along with the source's SWAPDB, and is still not the task's."""
    if not short.since((4, 0)):
        pytest.skip("no SWAPDB")
    put_foreign(target, (0,))
    for db in (0, 1):
        with short.connect(db) as c:
            c.feed(("SET", "key:%d" % i, db) for i in range(100))
    t = task()
    t.catch_up()
    short.call("SWAPDB", 0, 1)
    t.run.wait_caught_up()
    assert_foreign(target, (1,))
    t.lose(lambda: short.call("DEL", *["key:%d" % i for i in range(50)], db=1))
    m = t.end()
    assert m["keys_deleted"] == 50
    assert_foreign(target, (1,))
    assert_equal(short, target, ignore=FOREIGN)


# -- the note of what stood there -----------------------------------------------------------------
def test_note_damaged_then_gone(short, target, task):
    put_foreign(target)
    with short.connect() as c:
        c.feed(("SET", "key:%d" % i, 1) for i in range(100))
    t = task()
    t.catch_up()
    t.lose(lambda: short.call("DEL", "key:1"))
    path, = glob.glob(os.path.join(t.folder(), "existing.keys"))
    with open(path, "r+b") as f:
        f.seek(100)
        f.write(b"\xff\xff\xff")
    t.start().expect(1, "existing.keys is damaged", "remove the folder")
    assert_foreign(target)
    shutil.rmtree(t.folder())
    t.catch_up()
    assert t.run.terminate() == 0, t.run.said
    assert_foreign(target)
    # it cannot be known any more whose that was
    assert_equal(short, target, ignore=FOREIGN + [b"key:1"])


def test_from_another_machine(short, target, task):
    """No folder, but the target knows the task: its keys are replaced, none is deleted."""
    put_foreign(target)
    with short.connect() as c:
        c.feed(("SET", "key:%d" % i, 1) for i in range(1000))
    t = task()
    t.catch_up()

    def change():
        with short.connect() as c:
            c.feed(("SET", "key:%d" % i, 2) for i in range(500))
            c.feed(("DEL", "key:%d" % i) for i in range(900, 1000))
    t.lose(change)
    shutil.rmtree(t.state_dir)
    t.end()
    assert_foreign(target)
    assert_equal(short, target, ignore=FOREIGN + [b"key:%d" % i for i in range(900, 1000)])


def test_note_of_an_empty_target_is_no_file(short, target, task):
    short.call("SET", "a", 1)
    t = task()
    t.catch_up()
    assert not os.path.exists(os.path.join(t.folder(), "existing.keys"))
    t.lose(lambda: short.call("RENAME", "a", "b"))
    t.end()
    assert_equal(short, target)
