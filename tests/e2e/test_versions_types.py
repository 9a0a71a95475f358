# SPDX-License-Identifier: BSD-3-Clause
# Values of types that the target does not know: all that it can hold arrives, the rest is named.
import random
import time

import pytest

from lib.compare import assert_equal
from lib.dataset import FUNCTION, FUNCTION_2, MINUTE, Sizes, everything, hash_field_ttls
from lib.resp import ReplyError

# source, target: names as find_servers() has them; "default" is the machine's own
DOWN = [("redis-8.6", "default"), ("default", "redis-6.0"), ("redis-8.6", "redis-6.0"),
        ("redis-8.6", "redict-7.3"), ("redis-8.6", "valkey-8.1"), ("valkey-9.1", "redis-6.0"),
        ("valkey-9.1", "default")]
ACROSS = [("valkey-9.1", "redis-8.6"), ("redis-8.6", "valkey-9.1")]


def ids(pairs):
    return [" to ".join(p) for p in pairs]


@pytest.fixture
def pair(request, servers, server):
    for name in request.param:
        if name not in servers:
            pytest.skip("no server %s here (KEYHAUL_SERVERS)" % name)
    return [server(side, binary=servers[n]) for side, n in zip(("source", "target"), request.param)]


def pairs(*lists):
    flat = [p for some in lists for p in some]
    return pytest.mark.parametrize("pair", flat, ids=ids(flat), indirect=True)


def has_field_ttl(s):
    return s.version >= ((9, 0, 0) if s.valkey else (7, 4, 0))


def has_counters(s):
    return s.version >= (7, 0, 0)


def lost(k, what):
    """Keys named as having lost `what`, in the log."""
    return {line.split("key ", 1)[1].split(" of database")[0].strip('"')
            for line in k.stderr.splitlines() if "WARN" in line and "lost " + what in line
            and "of database" in line}


@pairs(DOWN, ACROSS)
def test_every_type(pair, keyhaul):
    source, target = pair
    both = has_field_ttl(source) and has_field_ttl(target)
    with source.connect() as c:
        c.feed(everything(source if both else min(pair, key=has_field_ttl), Sizes()))
    k = keyhaul(source, target, "--until", "caught-up")
    k.expect(0)
    r = assert_equal(source, target)
    assert r.keys > 100
    has_lost = lost(k, "counters of the stream")
    if has_counters(source) and not has_counters(target):
        assert {"stream:deleted", "stream:groups", "stream:empty"} <= has_lost
        assert "stream:plain" not in has_lost
    else:
        assert has_lost == set()
    assert lost(k, "the expiry of hash fields") == set()


@pairs(ACROSS)
def test_field_expiries_between_families(pair, keyhaul):
    """Small and large hashes; fields long past their time; all fields, some, none."""
    source, target = pair
    now = int(time.time() * 1000)
    with source.connect() as c:
        c.feed(hash_field_ttls(source, now))
        for name, n in (("few", 20), ("some", 3000), ("large", 40_000)):
            c.feed(("HSET", name, "field:%d" % i, "v" * 40) for i in range(n))
            c.feed(("HPEXPIREAT", name, now + 30 * MINUTE + i, "FIELDS", 1, "field:%d" % i)
                   for i in range(0, n, 3))
        c.call("HSET", "persisted", "f", "v", "g", "w")
        c.call("HPEXPIREAT", "persisted", now + MINUTE, "FIELDS", 1, "f")
        c.call("HPERSIST", "persisted", "FIELDS", 1, "f")
        c.call("HSET", "all", "f", "v", "g", "w")
        c.call("HPEXPIREAT", "all", now + 44 * MINUTE, "FIELDS", 2, "f", "g")
        c.call("PEXPIREAT", "all", now + 50 * MINUTE)
    k = keyhaul(source, target, "--until", "caught-up")
    k.expect(0)
    assert_equal(source, target)
    assert target.call("HPEXPIRETIME", "all", "FIELDS", 2, "f", "g") == [now + 44 * MINUTE] * 2


@pairs(DOWN)
def test_field_expiries_the_target_cannot_hold(pair, keyhaul):
    source, target = pair
    if not has_field_ttl(source) or has_field_ttl(target):
        pytest.skip("not a pair that differs in field expiry")
    with source.connect() as c:
        c.call("HSET", "h", "f", "v")
        c.call("HPEXPIRE", "h", 600_000, "FIELDS", 1, "f")
    target.call("SET", "was here", 1)
    k = keyhaul(source, target, "--until", "caught-up")
    k.expect(3, "has 1 hash with fields that expire: .* cannot hold that", "--on-unsupported")
    assert target.call("KEYS", "*") == [b"was here"]
    k = keyhaul(source, target, "--until", "caught-up", "--on-error", "continue")
    k.expect(4)
    assert "no expiry of hash fields" in k.stderr and '"h"' in k.stderr
    assert target.call("EXISTS", "h") == 0


@pairs([("default", "redis-6.0")])
def test_functions_the_target_cannot_hold(pair, keyhaul):
    source, target = pair
    source.call("FUNCTION", "LOAD", FUNCTION)
    source.call("SET", "k", "v")
    k = keyhaul(source, target, "--until", "caught-up")
    k.expect(3, "has 1 library of functions: Redis 6.0.* cannot hold that")
    assert target.call("DBSIZE") == 0
    k = keyhaul(source, target, "--on-unsupported", "skip")
    k.wait_caught_up()
    source.call("FUNCTION", "LOAD", FUNCTION_2)
    k.finish()
    assert 'the library "#!lua name=khlib" is left out' in k.stderr
    assert "lost FUNCTION: the target has no functions" in k.stderr
    assert target.call("GET", "k") == b"v"


def add_many(c, key, entries):
    rng = random.Random(entries)
    c.feed((("XADD", key, "%d-%d" % (1_600_000_000_000 + 3 * i, i % 5), "seq", i, "t",
             rng.randbytes(30)) for i in range(entries)), batch=2000)


def make_large_stream(c, key, entries=40_000, expires=None):
    """Above 1 MB serialized; messages deleted at the start, the end and between, pending ones
    among them; groups that are far, near, empty; consumers without anything."""
    add_many(c, key, entries)
    first = c.call("XRANGE", key, "-", "+", "COUNT", 300)
    c.call("XGROUP", "CREATE", key, "workers", "0")
    c.call("XGROUP", "CREATE", key, b"bin\0\r\n", "$")
    for name, n in (("alice", 5000), ("bob", 3000)):
        c.call("XREADGROUP", "GROUP", "workers", name, "COUNT", n, "STREAMS", key, ">")
    c.call("XREADGROUP", "GROUP", b"bin\0\r\n", "nothing to do", "STREAMS", key, ">")
    c.call("XACK", key, "workers", *[e[0] for e in first[1::7]])
    c.call("XCLAIM", key, "workers", "carol", 0, first[3][0], "TIME", 12345, "RETRYCOUNT", 77)
    c.call("XDEL", key, *[e[0] for e in first[:40]], *[e[0] for e in first[50::3]])
    last = c.call("XREVRANGE", key, "+", "-", "COUNT", 5)
    c.call("XDEL", key, *[e[0] for e in last])
    if expires:
        c.call("PEXPIREAT", key, expires)
    return len(c.call("XPENDING", key, "workers", "-", "+", 10**6))


@pairs([p for p in DOWN if p != ("valkey-9.1", "default")])
def test_large_stream(pair, keyhaul):
    """In parts: also what is pending without a message, which commands alone could not make."""
    source, target = pair
    expires = int(time.time() * 1000) + 60 * MINUTE + 3
    with source.connect(timeout=300) as c:
        n = make_large_stream(c, "s", expires=expires)
        assert n > 6000
        add_many(c, "plain", 30_000)
        add_many(c, "only pending", 40_000)
        c.call("XGROUP", "CREATE", "only pending", "g", "0")
        c.call("XREADGROUP", "GROUP", "g", "c", "STREAMS", "only pending", ">")
        c.call("XTRIM", "only pending", "MAXLEN", 0)
        for key in ("s", "plain", "only pending"):
            assert len(c.call("DUMP", key)) > 1 << 20  # beyond one RESTORE
    k = keyhaul(source, target, "--until", "caught-up")
    k.expect(0)
    assert_equal(source, target, entries_read=has_counters(target))
    assert len(target.call("XPENDING", "only pending", "g", "-", "+", 10**6)) == 40_000
    assert k.rss_mb < 80
    if not has_counters(target) and has_counters(source):
        assert {"s", "only pending"} <= lost(k, "counters of the stream")
    # and it lives on as it should
    for s in (source, target):
        assert s.call("XADD", "s", "1600000999999-0", "f", "v") == b"1600000999999-0"
        with pytest.raises(ReplyError, match="smaller"):
            s.call("XADD", "s", "1600000999998-0", "f", "v")


@pytest.mark.parametrize("policy", ["fail", "skip", "overwrite"])
@pytest.mark.parametrize("size", [10, 40_000])
@pairs([("redis-8.6", "default")])
def test_conflict(pair, keyhaul, policy, size):
    source, target = pair
    with source.connect(timeout=300) as c:
        add_many(c, "s", size)
        c.call("RPUSH", "l", "a")
    target.call("SET", "s", "was here")
    k = keyhaul(source, target, "--until", "caught-up", "--on-conflict", policy)
    if policy == "fail":
        assert k.wait() != 0
    else:
        k.expect(0)
    if policy == "overwrite":
        assert_equal(source, target)
    else:
        assert target.call("GET", "s") == b"was here"


@pairs([("redis-8.6", "default")])
def test_idempotent_producers_are_named(pair, keyhaul):
    source, target = pair
    with source.connect() as c:
        for i in range(12):
            c.call("XADD", "idmp:%d" % i, "IDMP", "producer", "id-1", "*", "f", "v")
        c.call("XADD", "plain", "5-1", "f", "v")
    k = keyhaul(source, target, "--until", "caught-up")
    k.expect(0)
    assert_equal(source, target)
    named = lost(k, "what the stream knows of idempotent producers")
    assert len(named) == 10 and "plain" not in named
    assert "12 keys lost what the stream knows of idempotent producers" in k.stderr


@pairs([("redis-8.6", "redis-8.0")])
def test_vector_sets_for_8_0(pair, keyhaul):
    """8.0 does not read what 8.2 and later write; the graphs too arrive as they are."""
    source, target = pair
    rng = random.Random(5)
    with source.connect() as c:
        for name, n, dim, more in (("one", 1, 3, ()), ("few", 30, 5, ("NOQUANT",)),
                                   ("bits", 200, 64, ("BIN",)), ("large", 6000, 60, ())):
            c.feed(("VADD", name, "VALUES", dim, *[rng.uniform(-1, 1) for _ in range(dim)],
                    b"e\r\n%d" % i, *more, "SETATTR", '{"n":%d}' % i) for i in range(n))
        c.feed(("VADD", "less", "REDUCE", 2, "VALUES", 4, *[rng.random() for _ in range(4)], i)
               for i in range(50))
        c.feed(("VREM", "large", b"e\r\n%d" % i) for i in range(0, 6000, 7))
        c.call("PEXPIREAT", "few", int(time.time() * 1000) + 30 * MINUTE)
        assert len(c.call("DUMP", "large")) > 1 << 20
    k = keyhaul(source, target)
    k.wait_caught_up()
    payload = source.call("DUMP", "few")
    source.call("RESTORE", "again", 0, payload)
    k.finish()
    r = assert_equal(source, target)
    assert r.keys == 6 and "lost" not in k.stderr
    for name in ("one", "few", "bits", "large", "less", "again"):
        with source.connect() as a, target.connect() as b:
            for e in a.call("VRANDMEMBER", name, 200):
                x, y = (c.call("VLINKS", name, e) for c in (a, b))
                assert [sorted(v) for v in x] == [sorted(v) for v in y], (name, e)
    # and it lives on
    for s in pair:
        assert s.call("VADD", "few", "VALUES", 5, 1, 2, 3, 4, 5, "new", "NOQUANT") == 1
        assert s.call("VREM", "large", b"e\r\n1") == 1


@pytest.mark.parametrize("option", [(), ("--on-unsupported", "skip")])
@pairs([("redis-8.0", "default"), ("redis-8.6", "valkey-9.1")])
def test_vector_sets_the_target_lacks(pair, keyhaul, option):
    source, target = pair
    with source.connect() as c:
        c.call("SET", "before", 1)
        for i in range(12):
            c.call("VADD", "v%d" % i, "VALUES", 2, 1, i, "e")
    k = keyhaul(source, target, "--until", "caught-up", *option)
    if option:
        k.expect(0)
        assert "12 keys lost everything" in k.stderr
        assert target.call("KEYS", "*") == [b"before"]
    else:
        k.expect(1)
        assert "has no vector sets" in k.said and '"v' in k.said
