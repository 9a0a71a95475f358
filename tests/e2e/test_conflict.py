# SPDX-License-Identifier: BSD-3-Clause
# Keys that stand on the target already: refused, replaced or left, never merged and never unnoticed.
import pytest

from lib.compare import assert_equal, compare
from lib.dataset import Sizes, bulk, fill
from lib.facts import digest, writes
from lib.resp import wait_for

SMALL = Sizes(small_keys=400, string_bytes=3 << 20, hash_fields=100_000, list_items=100_000,
              set_members=100_000, zset_members=80_000, stream_entries=40_000)
BIG = ("big:string", "big:hash", "big:list", "big:set", "big:zset", "big:stream")


def test_fail_refuses_and_writes_nothing(source, target, keyhaul):
    fill(source, SMALL, dbs=[0, 3])
    with target.connect(3) as c:
        c.feed(("SET", "key:3:%d" % i, "other") for i in range(12, 27))
        c.call("SET", "not on the source", "1")
    before, wrote = digest(target), writes(target)
    k = keyhaul(source, target).expect(3, "15", "on-conflict")
    named = {i for i in range(12, 27) if "key:3:%d" % i in k.said}
    assert len(named) == 10, (named, k.said)
    assert digest(target) == before and writes(target) == wrote


@pytest.mark.parametrize("key", [b"str:empty", b"", b"\0", b"a\0b\r\nc", b"k" * 10240])
def test_fail_finds_any_key(source, target, keyhaul, key):
    fill(source, Sizes(small_keys=10, string_bytes=10, hash_fields=1, list_items=1, set_members=1,
                       zset_members=1, stream_entries=1), dbs=[0])
    target.call("SET", key, "stays")
    keyhaul(source, target).expect(3, "conflict|exist")
    assert target.call("DBSIZE") == 1 and target.call("GET", key) == b"stays"


def test_fail_passes_keys_that_do_not_collide(source, target, keyhaul):
    fill(source, SMALL, dbs=[0, 1])
    with target.connect() as c:
        c.feed(("SET", "mine:%d" % i, i) for i in range(1000))
    with target.connect(2) as c:
        c.call("SET", "key:0:1", "in another database")
    k = keyhaul(source, target)
    k.wait_caught_up()
    source.call("SET", "new", "1")
    k.finish()
    ours = ["mine:%d" % i for i in range(1000)]
    assert_equal(source, target, db_map={0: 0, 1: 1}, other_dbs=(2,), ignore=ours)
    assert target.call("EXISTS", *ours) == 1000
    assert target.call("GET", "key:0:1", db=2) == b"in another database"


def test_fail_looks_where_the_map_leads(source, target, keyhaul):
    fill(source, SMALL, dbs=[0])
    target.call("SET", "str:empty", "no conflict here", db=0)
    keyhaul(source, target, "--db", "0", "--db-map", "0:5", "--until", "caught-up").expect(0)
    assert target.call("GET", "str:empty") == b"no conflict here"
    assert_equal(source, target, db_map={0: 5}, other_dbs=(0,))
    keyhaul(source, target, "--db", "0", "--db-map", "0:5").expect(3, "str:empty|conflict")


@pytest.mark.parametrize("key", ["small", "big:hash", "big:string"])
def test_fail_key_appears_during_the_load(server, keyhaul, key):
    """Between the check and the write somebody makes the key: it is not overwritten unnoticed."""
    source = server("source", config={"repl-diskless-sync-delay": "2"})
    target = server("target")
    source.call("SET", "small", "of the source")
    with source.connect() as c:
        c.call("SET", "big:string", b"x" * (3 << 20))
        bulk(c, "hash", "big:hash", 100_000)
    k = keyhaul(source, target)
    k.wait_metric(lambda m: m["phase"] == "wait-dump")
    target.call("SET", key, "of the target")
    assert k.wait(30) in (1, 3, 4)
    assert key in k.said
    assert target.call("GET", key) == b"of the target"


def plant_conflicts(target):
    with target.connect() as c:
        c.call("SET", "hash:small", "was a string")
        c.call("RPUSH", "str:empty", "was a list")
        c.call("HSET", "hash:wide", "foreign", "field", "f1", "other")
        c.call("SADD", "set:small", "foreign")
        c.call("PEXPIRE", "set:small", 10**9)
        c.call("SET", "str:binary", "x", "EX", 10000)
        c.call("RPUSH", "list:small", "foreign")
        c.call("XADD", "stream:plain", "9999999-1", "foreign", "1")
        c.call("HSET", "big:hash", "foreign", "1")
        c.call("PEXPIRE", "big:hash", 10**10)
        c.call("RPUSH", "big:list", "foreign")
        c.call("SADD", "big:set", "foreign")
        c.call("ZADD", "big:zset", 1, "foreign")
        c.call("SET", "big:stream", "was a string")
        c.call("XADD", "big:string", "*", "was a", "stream")
        c.call("SET", "untouched", "mine")
    return ["hash:small", "str:empty", "hash:wide", "set:small", "str:binary", "list:small",
            "stream:plain", *BIG]


def test_overwrite(source, target, keyhaul):
    fill(source, SMALL, dbs=[0])
    plant_conflicts(target)
    k = keyhaul(source, target, "--on-conflict", "overwrite")
    k.wait_caught_up()
    source.call("APPEND", "str:empty", "+")
    k.finish()
    assert_equal(source, target, ignore=["untouched"])
    assert target.call("GET", "untouched") == b"mine"


def test_overwrite_twice_changes_nothing(source, target, keyhaul):
    """Loading the same snapshot again must give the same."""
    fill(source, SMALL, dbs=[0, 1])
    for _ in range(2):
        keyhaul(source, target, "--on-conflict", "overwrite", "--until", "caught-up").expect(0)
        assert_equal(source, target, entries_read=True)


def test_skip(source, target, keyhaul):
    fill(source, SMALL, dbs=[0])
    there = plant_conflicts(target)
    with target.connect() as c:
        before = c.pipeline([("DUMP", x) for x in there] + [("PEXPIRETIME", x) for x in there])
    k = keyhaul(source, target, "--on-conflict", "skip", "--until", "caught-up").expect(0)
    with target.connect() as c:
        after = c.pipeline([("DUMP", x) for x in there] + [("PEXPIRETIME", x) for x in there])
    changed = [x for x, a, b in zip(there * 2, before, after) if a != b]
    assert not changed
    assert k.metrics()["keys_skipped"] == len(there)
    assert str(len(there)) in k.said
    r = compare(source, target, ignore=[*there, "untouched"])
    assert r.count == 0, str(r)


def test_functions_that_exist(source, target, keyhaul):
    """A library of that name on the target: refused under fail, replaced under overwrite."""
    fill(source, Sizes(small_keys=10), dbs=[0])
    other = "#!lua name=khlib\nredis.register_function('mine', function() return 1 end)"
    target.call("FUNCTION", "LOAD", other)
    k = keyhaul(source, target, "--until", "caught-up")
    if k.wait() == 0:
        pytest.fail("ended with 0 although the library khlib was there:\n" + k.said)
    assert "khlib" in k.said
    wait_for(lambda: k.status() is not None)
    target.call("FLUSHALL")
    keyhaul(source, target, "--on-conflict", "overwrite", "--until", "caught-up").expect(0)
    assert_equal(source, target)
