# SPDX-License-Identifier: BSD-3-Clause
# --db and --db-map: only what was selected is touched, whatever the stream says (C9).
import pytest

from lib.compare import assert_equal, compare
from lib.dataset import Sizes, fill
from lib.facts import digest
from lib.mover import wait_caught_up
from lib.writer import Writer

SMALL = Sizes(small_keys=400, string_bytes=1000, hash_fields=500, list_items=500, set_members=500,
              zset_members=500, stream_entries=300)


def stand_by(target, *dbs):
    """Keys of somebody else on the target."""
    for db in dbs:
        with target.connect(db) as c:
            c.call("SET", "bystander", "of %d" % db)


def bystanders(target, *dbs):
    return all(target.call("GET", "bystander", db=db) == b"of %d" % db for db in dbs)


def test_selected_databases(source, target, keyhaul):
    fill(source, SMALL)
    stand_by(target, 1, 7, 15)
    chosen = {0: 0, 3: 3, 8: 8, 9: 9}
    with Writer(source, rate=3000, dbs=[0, 3, 8, 9], swap=(), flush=(9,)) as inside, \
            Writer(source, seed=99, rate=1000, dbs=[1, 2, 15], swap=(1, 2), flush=(2,)) as outside:
        k = keyhaul(source, target, "--db", "0,3,8-9")
        k.wait_caught_up()
        inside.stop()
        outside.stop()
    k.finish()
    assert_equal(source, target, db_map=chosen, other_dbs=(1, 7, 15))
    assert bystanders(target, 1, 7, 15)
    assert all(target.call("DBSIZE", db=d) == 1 for d in (1, 7, 15))
    assert k.metrics()["commands_filtered"] > 0


def test_database_of_the_uri(source, target, keyhaul):
    fill(source, SMALL, dbs=[0, 4])
    keyhaul(source, target, "--until", "caught-up", source_uri=source.uri() + "/4").expect(0)
    assert_equal(source, target, db_map={4: 4})


def test_map(source, target, keyhaul):
    fill(source, SMALL, dbs=[0, 3])
    stand_by(target, 3, 4)
    k = keyhaul(source, target, "--db", "0,3", "--db-map", "0:5,3:0")
    mapped = {0: 5, 3: 0}
    with Writer(source, rate=3000, dbs=[0, 3], swap=(0, 3), flush=(3,)) as w:
        wait_caught_up(source, target, 3, 0, alive=k.alive)
        w.stop()
    with source.connect() as c:
        c.pipeline([("SET", "mover", 1), ("MOVE", "mover", 3), ("SET", "copied", 2),
                    ("COPY", "copied", "copy", "DB", 3, "REPLACE"), ("MULTI",), ("SET", "tx0", 0),
                    ("SELECT", 3), ("SET", "tx3", 3), ("EXEC",)])
    wait_caught_up(source, target, 3, 0, alive=k.alive)
    assert target.call("GET", "mover", db=0) == b"1"
    assert target.call("GET", "copy", db=0) == b"2"
    assert target.call("GET", "tx0", db=5) == b"0"
    assert_equal(source, target, db_map=mapped, other_dbs=(3, 4))
    source.call("SWAPDB", 0, 3)
    wait_caught_up(source, target, 3, 0, alive=k.alive)
    assert_equal(source, target, db_map=mapped, other_dbs=(3, 4))
    assert k.terminate() == 0
    assert bystanders(target, 3, 4)


@pytest.mark.parametrize("flush", ["FLUSHALL", "FLUSHALL ASYNC", "FLUSHALL SYNC"])
def test_flushall_touches_the_selected_only(source, target, keyhaul, flush):
    fill(source, SMALL, dbs=[0, 2, 6])
    stand_by(target, 1, 6, 9)
    k = keyhaul(source, target, "--db", "0,2", "--db-map", "2:3")
    k.wait_caught_up()
    assert target.call("DBSIZE", db=3) > 50
    with source.connect() as c:
        c.call(*flush.split())
        c.call("SELECT", 2)
        c.call("SET", "after", "1")
    k.finish()
    assert_equal(source, target, db_map={0: 0, 2: 3}, other_dbs=(1, 6, 9))
    assert bystanders(target, 1, 6, 9)


def test_flushdb_of_others_is_left_out(source, target, keyhaul):
    fill(source, SMALL, dbs=[0, 1])
    stand_by(target, 1)
    k = keyhaul(source, target, "--db", "0")
    k.wait_caught_up()
    source.call("FLUSHDB", db=1)
    k.finish()
    assert_equal(source, target, db_map={0: 0}, other_dbs=(1,))
    assert bystanders(target, 1)


# Commands over the border of what is selected: the target gets it right, or keyhaul says that it
# cannot; it must never end with 0 and a target that differs.
BORDER = {
    "move out": [("MOVE", "key:0:7", 1)],
    "move in": [("SELECT", 1), ("MOVE", "key:1:5", 0)],
    "move in, not moved": [("SET", "key:1:5", "here"), ("SELECT", 1), ("MOVE", "key:1:5", 0)],
    "copy out": [("COPY", "key:0:7", "x", "DB", 1)],
    "copy in": [("SELECT", 1), ("COPY", "key:1:5", "copied in", "DB", 0)],
    "swap": [("SWAPDB", 0, 1)],
    "in a transaction": [("MULTI",), ("SET", "a", 1), ("SELECT", 1), ("SET", "b", 1),
                         ("MOVE", "key:1:5", 0), ("EXEC",)],
}


@pytest.mark.parametrize("name", BORDER)
def test_over_the_border(source, target, keyhaul, name):
    fill(source, SMALL, dbs=[0, 1])
    stand_by(target, 1)
    k = keyhaul(source, target, "--db", "0")
    k.wait_caught_up()
    with source.connect() as c:
        c.pipeline(BORDER[name])
    try:
        wait_caught_up(source, target, alive=k.alive, timeout=15)
    except AssertionError:
        assert k.proc.returncode in (1, 4), k.said
        assert any(w in k.said.upper() for w in ("MOVE", "COPY", "SWAPDB")), k.said
    else:
        assert k.terminate() in (0, 4)
        r = compare(source, target, db_map={0: 0}, other_dbs=(1,))
        assert r.count == 0 or k.proc.returncode == 4, str(r) + k.said
    assert bystanders(target, 1)
    if name.startswith(("move out", "copy out")):
        assert k.proc.returncode == 0, "this one can be done right:\n" + k.said


def test_target_has_too_few_databases(server, keyhaul):
    source, target = server("source"), server("target", config={"databases": "4"})
    fill(source, SMALL, dbs=[0, 9])
    before = digest(target)
    keyhaul(source, target).expect(3, "database", "target")
    assert digest(target) == before
    keyhaul(source, target, "--db", "0,9", "--db-map", "9:3", "--until", "caught-up").expect(0)
    assert_equal(source, target, db_map={0: 0, 9: 3})
