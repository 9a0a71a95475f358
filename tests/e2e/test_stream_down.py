# SPDX-License-Identifier: BSD-3-Clause
# Commands in the stream that the target is too old for: what they did is done there as well.
import time

import pytest

from lib.compare import assert_equal
from lib.dataset import MINUTE
from lib.resp import ReplyError

NOW = int(time.time() * 1000)
LATER = NOW + 40 * MINUTE

# name: first (redis, valkey) version of the source that has all of it, what is there before, and
# what is done while keyhaul follows
CASES = {
    "strings": ((6, 2), None, [("SET", "k", "v", "PX", 3000_000), ("SET", "n", 1)], [
        ("SET", "k", "w", "KEEPTTL"), ("SET", "a", 1, "PXAT", LATER), ("GETSET", "a", 2),
        ("SET", "b", 1, "EXAT", LATER // 1000, "NX"), ("SET", "b", 2, "XX", "GET", "PXAT", LATER),
        ("GETDEL", "n"), ("SET", "c", 1, "PXAT", 1000), ("GETEX", "k", "EXAT", LATER // 1000),
        ("INCRBYFLOAT", "f", "1.5")]),
    "conditions": ((7, 0), None, [("SET", "k", 1), ("SET", "l", 1)], [
        ("PEXPIREAT", "k", LATER, "NX"), ("PEXPIREAT", "k", LATER + 7, "GT"),
        ("PEXPIREAT", "k", LATER - 99, "GT"), ("EXPIREAT", "l", LATER // 1000, "NX")]),
    "ifeq": ((8, 4), (8, 1), [("SET", "k", "PXAT"), ("SET", "l", 1)], [
        ("SET", "k", "v", "IFEQ", "PXAT", "PXAT", LATER), ("SET", "l", 2, "IFEQ", 7),
        ("SET", "l", 3, "IFEQ", 1)]),
    "msetex": ((8, 4), (9, 1), [("SET", "c", 1, "PX", 3000_000)], [
        ("MSETEX", 2, "a", 1, "b", 2, "PXAT", LATER), ("MSETEX", 1, "c", 2, "KEEPTTL"),
        ("MSETEX", 1, "d", 2, "NX", "EXAT", LATER // 1000), ("MSETEX", 1, "d", 9, "NX")]),
    "copy": ((6, 2), None, [
        ("SET", "s", "v", "PXAT", LATER), ("RPUSH", "l", *range(300)), ("HSET", "h", "f", "v"),
        ("XADD", "x", "1-1", "f", "v"), ("XGROUP", "CREATE", "x", "g", "0"),
        ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "x", ">"), ("SET", "there", 1, "PX", 5000_000)],
        [("COPY", "s", "s2"), ("COPY", "l", "l2"), ("COPY", "h", "there", "REPLACE"),
         ("COPY", "x", "x2"), ("COPY", "s", "s3", "DB", 4), ("COPY", "l", "s"), ("INCR", "after"),
         ("COPY", "s", "x2", "DB", 4, "REPLACE")]),
    "lists": ((6, 2), None, [("RPUSH", "l", *range(20)), ("RPUSH", "m", *range(5)),
                             ("RPUSH", "one", "x"), ("PEXPIREAT", "one", LATER)], [
        ("LPOP", "l", 3), ("RPOP", "l", 4), ("LMOVE", "l", "m", "LEFT", "RIGHT"),
        ("LMOVE", "l", "m", "RIGHT", "LEFT"), ("LMOVE", "l", "new", "RIGHT", "RIGHT"),
        ("LMOVE", "m", "m", "LEFT", "LEFT"), ("LMOVE", "m", "m", "LEFT", "RIGHT"),
        ("LMOVE", "one", "one", "LEFT", "RIGHT"), ("LMOVE", "none", "one", "LEFT", "RIGHT"),
        ("RPUSH", "gone", 1, 2), ("LPOP", "gone", 9), ("RPUSH", "gone2", 1), ("RPOP", "gone2", 9)]),
    "multipop": ((7, 0), None, [("RPUSH", "l", *range(20)), ("ZADD", "z", 1, "a", 2, "b", 3, "c")],
                 [("LMPOP", 2, "none", "l", "RIGHT", "COUNT", 4), ("ZMPOP", 1, "z", "MAX"),
                  ("ZPOPMIN", "z", 1)]),
    "zadd": ((6, 2), None, [("ZADD", "z", 1, "a", 10, "b", "inf", "c", "-inf", "d", 0.1, "e")], [
        ("ZADD", "z", "GT", 5, "a", 3, "b", "inf", "d", 7, "new", 0.2, "e"),
        ("ZADD", "z", "LT", "CH", "-1e300", "c", 4, "a", 99, "b"),
        ("ZADD", "z", "XX", "GT", 100, "a", 100, "not there"), ("ZADD", "z", "GT", "INCR", 3, "b"),
        ("ZADD", "z", "XX", "LT", 1, "b"), ("ZADD", "z", "GT", 1.5, "single")]),
    "zstore": ((6, 2), None, [
        ("ZADD", "z", *[x for i in range(40) for x in (i / 3, "m%02d" % i)], "inf", "top"),
        ("ZADD", "y", 0, "a", 0, "b", 0, "c", 0, "d"), ("SADD", "s", "m03", "m04", "x"),
        ("ZADD", "dst", 1, "old")], [
        ("ZRANGESTORE", "dst", "z", 3, 9), ("ZRANGESTORE", "d2", "z", 0, 4, "REV"),
        ("ZRANGESTORE", "d3", "z", "(2", "+inf", "BYSCORE", "LIMIT", 2, 30),
        ("ZRANGESTORE", "d4", "z", "9", "1", "BYSCORE", "REV", "LIMIT", 0, 2),
        ("ZRANGESTORE", "d5", "y", "[b", "+", "BYLEX"), ("ZRANGESTORE", "d6", "y", "(d", "-",
                                                        "BYLEX", "REV", "LIMIT", 1, 1),
        ("ZRANGESTORE", "y", "y", 1, 2), ("ZADD", "e", 1, "x"), ("ZRANGESTORE", "e", "z", 99, 100),
        ("ZDIFFSTORE", "f1", 3, "z", "s", "d2"), ("ZDIFFSTORE", "f2", 2, "s", "z"),
        ("ZDIFFSTORE", "dst", 1, "dst"), ("ZDIFFSTORE", "f3", 2, "none", "z")]),
    "geo": ((6, 2), None, [("GEOADD", "g", 13.361389, 38.115556, "Palermo", 15.087269, 37.502669,
                            "Catania", 2.35, 48.85, "Paris")], [
        ("GEOSEARCHSTORE", "g1", "g", "FROMLONLAT", 15, 37, "BYRADIUS", 200, "km"),
        ("GEOSEARCHSTORE", "g2", "g", "FROMMEMBER", "Paris", "BYRADIUS", 9000, "km", "ASC",
         "COUNT", 2, "STOREDIST"), ("GEOADD", "g", "CH", 2.4, 48.9, "Paris")]),
    "trim": ((6, 2), None, [("XADD", "x", "%d-%d" % (i, i % 3 + 1), "f", i) for i in range(1, 400)],
             [("XADD", "x", "NOMKSTREAM", "500-1", "f", "v"), ("XTRIM", "x", "MINID", "20-2"),
              ("XADD", "x", "MINID", "~", "300-0", "LIMIT", 100, "501-1", "f", "v"),
              ("XADD", "x", "MINID", "=", "200", "502-1", "f", "v"),
              ("XADD", "y", "MINID", "9-9", "5-1", "f", "v"),
              ("XADD", "x", "MAXLEN", "~", 150, "LIMIT", 1000, "503-1", "f", "v"),
              ("XADD", "x", "MAXLEN", 90, "504-1", "f", "v"),
              ("XTRIM", "x", "MAXLEN", "~", 40, "LIMIT", 5)]),
    "groups": ((7, 0), None, [("XADD", "x", "%d-1" % i, "f", i) for i in range(1, 30)], [
        ("XGROUP", "CREATE", "x", "g", "0", "ENTRIESREAD", 0), ("XGROUP", "CREATE", "x2", "h", "$",
                                                               "MKSTREAM"),
        ("XGROUP", "CREATECONSUMER", "x", "g", "early"),
        ("XREADGROUP", "GROUP", "g", "alice", "COUNT", 12, "STREAMS", "x", ">"),
        ("XREADGROUP", "GROUP", "g", "bob", "COUNT", 5, "NOACK", "STREAMS", "x", ">"),
        ("XDEL", "x", "2-1", "5-1"), ("XACK", "x", "g", "1-1"),
        ("XAUTOCLAIM", "x", "g", "carol", 0, "0", "COUNT", 6),
        ("XCLAIM", "x", "g", "dave", 0, "9-1", "RETRYCOUNT", 5),
        ("XGROUP", "SETID", "x", "g", "20-1", "ENTRIESREAD", 20),
        ("XGROUP", "DELCONSUMER", "x", "g", "bob"),
        ("XSETID", "x", "99-1", "ENTRIESADDED", 40, "MAXDELETEDID", "5-1")]),
    "delete": ((8, 2), None, [
        *[("XADD", "x", "%d-%d" % (i, i % 2), "f", i) for i in range(1, 40)],
        ("XGROUP", "CREATE", "x", "g", "0"), ("XGROUP", "CREATE", "x", "h", "0"),
        ("XREADGROUP", "GROUP", "g", "c", "COUNT", 30, "STREAMS", "x", ">"),
        ("XREADGROUP", "GROUP", "h", "c", "COUNT", 12, "STREAMS", "x", ">"),
        ("XACK", "x", "h", "6-0", "7-1"), ("XACK", "x", "g", "7-1")], [
        ("XDELEX", "x", "IDS", 2, "1-1", "77-1"), ("XDELEX", "x", "KEEPREF", "IDS", 1, "2"),
        ("XDELEX", "x", "DELREF", "IDS", 2, "3-1", "4-0"),
        ("XDELEX", "x", "ACKED", "IDS", 3, "5-1", "6-0", "7-1"),
        ("XDELEX", "x", "ACKED", "IDS", 1, "39-1"),
        ("XACKDEL", "x", "g", "IDS", 2, "8-0", "39-1"),
        ("XACKDEL", "x", "g", "DELREF", "IDS", 2, "9-1", "10-0"),
        ("XACKDEL", "x", "g", "ACKED", "IDS", 3, "6", "11-1", "20-0"),
        ("XDEL", "x", "12-0"), ("XACKDEL", "x", "g", "IDS", 2, "12-0", "13-1"),
        ("XADD", "x", "KEEPREF", "MAXLEN", 30, "50-1", "f", "v")]),
    "hash floats": ((6, 0), None, [("HSET", "h", "f", "1")], [
        ("HINCRBYFLOAT", "h", "f", "1.5"), ("HINCRBYFLOAT", "h", "new", "0.1")]),
    "fields": ((8, 0), (9, 1), [("HSET", "h", "a", 1, "b", 2, "c", 3)], [
        ("HGETDEL", "h", "FIELDS", 1, "a"), ("HSETEX", "h", "FNX", "FIELDS", 2, "x", 1, "y", 2),
        ("HSETEX", "h", "FXX", "FIELDS", 1, "x", 5), ("HSETEX", "h", "FNX", "FIELDS", 1, "x", 6),
        ("HPERSIST", "h", "FIELDS", 1, "b")]),
    "scripts": ((7, 0), None, [], [
        ("EVAL", "redis.call('set',KEYS[1],1,'pxat',ARGV[1]) return redis.call('lmpop',1,KEYS[2],"
         "'left') ", 2, "k", "l", LATER), ("SCRIPT", "FLUSH", "ASYNC"), ("SPUBLISH", "c", "m")]),
}
DOWN = [("redis-8.6", "redis-6.0"), ("redis-8.6", "redis-7.0"), ("redis-7.0", "redis-6.0"),
        ("valkey-9.1", "redis-6.0"), ("redis-8.6", "valkey-9.1"), ("valkey-9.1", "redis-8.0"),
        ("redis-8.6", "redict-7.3"), ("redis-8.6", "redis-8.6")]


def run(c, commands):
    for command in commands:
        c.call(*command)


@pytest.mark.parametrize("pair", DOWN, ids=[" to ".join(p) for p in DOWN])
def test_same_effect(pair, servers, server, keyhaul):
    """All cases in one move, each in a database of its own."""
    for name in pair:
        if name not in servers:
            pytest.skip("no server %s here (tests/servers)" % name)
    source, target = server("source", binary=servers[pair[0]]), server("target",
                                                                       binary=servers[pair[1]])
    cases = [c for c in CASES.values() if source.since(c[0], c[1])]
    assert len(cases) >= 12
    with source.connect() as c:
        for db, (_, _, before, _) in enumerate(cases):
            c.call("SELECT", db)
            run(c, before)
        k = keyhaul(source, target)
        k.wait_caught_up()
        for db, (_, _, _, during) in enumerate(cases):
            c.call("SELECT", db)
            run(c, during)
            c.call("MULTI")
            for command in [("INCR", "in a transaction"), *during[:3]]:
                c.call(*command)
            try:
                c.call("EXEC")
            except ReplyError:
                pass
    k.finish()
    r = assert_equal(source, target)
    assert r.keys >= 50
    assert "refused" not in k.stderr
