# SPDX-License-Identifier: BSD-3-Clause
# The judge is judged: equal servers are equal, and each kind of planted difference is found.
import os
import time

import pytest

from lib.compare import compare
from lib.dataset import FUNCTION, Sizes, fill
from lib.mover import Native
from lib.server import Server

HOUR = 3_600_000

# name, command for the target, the key that must be named, a word of the difference
PLANTED = [
    ("missing", ["DEL", "str:empty"], b"str:empty", "missing"),
    ("extra", ["SET", "only here", "1"], b"only here", "not on the source"),
    ("type", None, b"str:binary", "type"),
    ("string", ["SETRANGE", "str:crlf", "2", "x"], b"str:crlf", "string"),
    ("string grown", ["APPEND", "str:len:65536", "x"], b"str:len:65536", "65537"),
    ("number", ["INCR", "str:int:9999"], b"str:int:9999", "10000"),
    ("binary key", ["SET", b"a\0b\r\nc", "changed"], b"a\0b\r\nc", "changed"),
    ("empty key", ["SET", "", "changed"], b"", "changed"),
    ("ttl by one ms", None, b"ttl:hash", "expires"),
    ("ttl gone", ["PERSIST", "ttl:list"], b"ttl:list", "expires"),
    ("ttl added", ["PEXPIRE", "list:one", str(HOUR)], b"list:one", "expires"),
    ("list order", None, b"list:small", "at "),
    ("list long, last", ["LSET", "big:list", "-1", "x"], b"big:list", "list"),
    ("list shorter", ["RPOP", "list:quicklist"], b"list:quicklist", "list"),
    ("set member", None, b"set:hashtable", "set"),
    ("intset member", None, b"set:intset64", "set"),
    ("hash value", ["HSET", "hash:wide", "f300", "x"], b"hash:wide", "f300"),
    ("hash field", ["HDEL", "big:hash", "field:77"], b"big:hash", "field:77"),
    ("zset score", ["ZINCRBY", "zset:skiplist", "0.0000001", "m9"], b"zset:skiplist", "zset"),
    ("zset infinite", ["ZADD", "zset:small", "1e308", "m0"], b"zset:small", "zset"),
    ("zset member", ["ZREM", "zset:same-score", "s000"], b"zset:same-score", "zset"),
    ("stream entry", ["XDEL", "stream:plain", "1100-1"], b"stream:plain", "length"),
    ("stream last id", ["XSETID", "stream:setid", "1000-2"], b"stream:setid", "last-generated-id"),
    ("stream counters", ["XSETID", "stream:setid", "1000-1", "ENTRIESADDED", "9", "MAXDELETEDID",
                         "3-3"], b"stream:setid", "entries-added|max-deleted"),
    ("stream ack", ["XACK", "stream:groups", "workers", "10-2"], b"stream:groups", "groups"),
    ("stream consumer", ["XGROUP", "CREATECONSUMER", "stream:groups", "idle", "extra"],
     b"stream:groups", "extra"),
    ("stream group", ["XGROUP", "DESTROY", "stream:groups", "idle"], b"stream:groups", "idle"),
    ("stream group's id", ["XGROUP", "SETID", "stream:groups", "workers", "10-2"],
     b"stream:groups", "last-delivered-id"),
    ("pending count", ["XCLAIM", "stream:groups", "workers", "dave", "0", "10-5", "RETRYCOUNT",
                       "10", "TIME", "1000", "JUSTID"], b"stream:groups", "groups"),
    ("pending owner", ["XCLAIM", "stream:groups", "workers", "erin", "0", "10-6", "RETRYCOUNT",
                       "1", "JUSTID"], b"stream:groups", "groups"),
    ("hyperloglog", ["PFADD", "hll:sparse", "one more"], b"hll:sparse", "string"),
    ("other database", ["SELECT 7", "SET", "key:7:5", "x"], b"key:7:5", "db 7"),
    ("database emptied", ["SELECT 3", "FLUSHDB"], b"key:3:1", "missing"),
    ("function", ["FUNCTION", "DELETE", "khother"], b"khother", "function"),
    ("function code", ["FUNCTION", "LOAD", "REPLACE", FUNCTION.replace("'GET'", "'TYPE'")],
     b"khlib", "function"),
]


@pytest.fixture(scope="module")
def pair():
    """Two equal servers, made by native replication."""
    with Server(name="source") as a, Server(name="target") as b:
        fill(a, Sizes(small_keys=1000, hash_fields=3000, list_items=25_000, set_members=3000,
                      zset_members=3000, stream_entries=2000))
        Native(a, b).finish()
        yield a, b


@pytest.mark.native
def test_equal_is_equal(pair):
    r = compare(*pair, entries_read=True)
    assert r.count == 0, str(r)
    assert r.keys > 1400 and r.elements > 50_000


def plant(c, name, command):
    if name == "type":
        c.pipeline([("DEL", "str:binary"), ("LPUSH", "str:binary", "x")])
    elif name == "ttl by one ms":
        c.call("PEXPIREAT", "ttl:hash", c.call("PEXPIRETIME", "ttl:hash") + 1)
    elif name == "list order":
        c.call("RPUSH", "list:small", c.call("LPOP", "list:small"))
    elif name == "set member":
        c.pipeline([("SREM", "set:hashtable", "member 5"), ("SADD", "set:hashtable", "member V")])
    elif name == "intset member":
        c.pipeline([("SREM", "set:intset64", 1), ("SADD", "set:intset64", 2)])
    else:
        if command[0].startswith("SELECT "):
            c.call("SELECT", command[0][7:])
            command = command[1:]
        c.call(*command)


@pytest.mark.native
@pytest.mark.parametrize("name,command,key,word", PLANTED, ids=[p[0] for p in PLANTED])
def test_finds(pair, name, command, key, word):
    a, b = pair
    with b.connect() as c:
        plant(c, name, command)
    try:
        r = compare(a, b, limit=100, recheck_s=0.02)
        named = [d for d in r.differences if repr(key) in d]
        assert named, "not found: " + str(r)
        assert any(w in d for d in named for w in word.split("|")), named
        if name != "database emptied":
            assert r.count == 1, str(r)
    finally:
        Native(a, b).finish()


@pytest.mark.native
@pytest.mark.parametrize("command, word", [
    (["XREADGROUP", "GROUP", "idle", "waiting", "STREAMS", "stream:groups", "0"], "seen-time"),
    (["XGROUP", "SETID", "stream:groups", "idle", "10-40", "ENTRIESREAD", "3"], "entries-read")])
def test_finds_of_settled_streams(pair, command, word):
    """Differences that are none as long as somebody may use the stream."""
    a, b = pair
    a.call("XGROUP", "CREATECONSUMER", "stream:groups", "idle", "waiting")
    try:
        Native(a, b).finish()
        assert compare(a, b, settled=[b"stream:"]).count == 0
        b.call(*command)
        assert compare(a, b, recheck_s=0.02).count == 0
        r = compare(a, b, recheck_s=0.02, settled=[b"stream:"])
        assert r.count == 1 and word in r.differences[0], str(r)
    finally:
        a.call("XGROUP", "DELCONSUMER", "stream:groups", "idle", "waiting")
        Native(a, b).finish()


@pytest.mark.native
def test_database_that_should_be_empty(pair):
    a, b = pair
    r = compare(a, b, db_map={0: 0, 1: 1})
    assert r.count == 14 and all("should be empty" in d for d in r.differences)


@pytest.mark.native
def test_writer_and_replica_agree():
    """Writer, native replication and comparison fit: what is found later is the mover's."""
    from lib.writer import Writer
    with Server(name="source") as a, Server(name="target") as b:
        fill(a, Sizes(small_keys=500, hash_fields=500, list_items=500, set_members=500,
                      zset_members=500, stream_entries=500, string_bytes=1000))
        with Writer(a, rate=8000) as w:
            n = Native(a, b)
            n.wait_caught_up()
            time.sleep(float(os.environ.get("KEYHAUL_WRITE_S", "2")))
            counts = w.stop()
        n.finish()
        assert counts["commands"] > 5000 and counts["errors"] < counts["commands"] / 3, counts
        r = compare(a, b)
        assert r.count == 0, str(r)
