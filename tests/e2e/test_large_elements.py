# SPDX-License-Identifier: BSD-3-Clause
# Elements, fields and values larger than memory should hold: they arrive, in bounded memory.
import os

import pytest

from lib.compare import assert_equal
from lib.server import find_servers

SIZES = [20, pytest.param(100, marks=pytest.mark.heavy)]


def noise(mb):
    return os.urandom(1 << 20) * mb + os.urandom(17)


def text(mb):
    """Compresses well: a source sends it as LZF."""
    return b"".join(b"%011d" % i for i in range(mb * 95325))


def fill_large(c, make, mb):
    c.call("RPUSH", "list", "first", make(mb), "second", make(mb), "last")
    c.call("SADD", "set", "small", make(mb))
    c.call("ZADD", "zset", "-1.5", "small", "2.25", make(mb), "inf", "top")
    c.call("HSET", "hash:value", "f", make(mb), "g", "small")
    c.call("HSET", "hash:field", make(mb), "v", "g", "small")
    c.call("HSET", "hash:both", make(mb), make(mb))
    for i, key in enumerate(("list", "set", "zset", "hash:value")):
        c.call("PEXPIRE", key, 3_600_000 + i)


@pytest.mark.parametrize("name", sorted(find_servers()))
@pytest.mark.parametrize("mb", SIZES)
@pytest.mark.parametrize("make", [noise, text])
def test_large_elements(servers, server, keyhaul, name, mb, make):
    source, target = server("source", binary=servers[name]), server("target")
    with source.connect(timeout=300) as c:
        fill_large(c, make, mb)
    k = keyhaul(source, target, "--until", "caught-up").expect(0, timeout=120)
    assert k.peak_rss_mb() <= 64, k.peak_rss_mb()
    assert_equal(source, target)


def test_large_packed_values(server, keyhaul):
    """Packed as one blob, as a source does that was told to, they go as they are."""
    big = {"hash-max-listpack-value": "64mb", "zset-max-listpack-value": "64mb"}
    source, target = server("source", config=big), server("target")
    with source.connect() as c:
        c.call("HSET", "hash", "f", os.urandom(12 << 20), "g", os.urandom(12 << 20))
        c.call("ZADD", "zset", 1, os.urandom(9 << 20))
        assert c.call("OBJECT", "ENCODING", "hash") == b"listpack"
    k = keyhaul(source, target, "--until", "caught-up").expect(0)
    assert k.peak_rss_mb() <= 64, k.peak_rss_mb()
    assert_equal(source, target)


@pytest.mark.parametrize("policy", ["stop", "continue"])
def test_larger_than_the_target_takes(server, keyhaul, policy):
    source, target = server("source"), server("target", config={"proto-max-bulk-len": "1mb"})
    with source.connect() as c:
        c.call("HSET", "too large", "f", os.urandom(3 << 20), *[x for i in range(5000)
                                                               for x in (i, os.urandom(400))])
        c.call("SET", "fine", "1")
    k = keyhaul(source, target, "--until", "caught-up", "--on-error", policy)
    k.expect(1 if policy == "stop" else 4, '"too large"', "proto-max-bulk-len")
    if policy == "continue":
        assert target.call("KEYS", "*") == [b"fine"]
