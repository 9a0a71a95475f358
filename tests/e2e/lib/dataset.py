# SPDX-License-Identifier: BSD-3-Clause
# The data set: every type, encoding and odd value a server of 6.0 and later can hold, any size.
import random
import time
from dataclasses import dataclass

from .resp import ReplyError

MINUTE = 60_000

FUNCTION = """#!lua name=khlib
redis.register_function('kh_set', function(keys, args)
    return redis.call('SET', keys[1], args[1]) end)
redis.register_function{function_name='kh_get', callback=function(keys)
    return redis.call('GET', keys[1]) end, flags={'no-writes'}}
"""
FUNCTION_2 = "#!lua name=khother\nredis.register_function('kh_one', function() return 1 end)\n"


@dataclass
class Sizes:
    dbs: int = 16
    small_keys: int = 2000        # plain strings, spread over the databases
    string_bytes: int = 1 << 20   # the big string
    hash_fields: int = 20_000
    list_items: int = 20_000
    set_members: int = 20_000
    zset_members: int = 20_000
    stream_entries: int = 5_000
    element_bytes: int = 20_000   # large elements inside collections

    @classmethod
    def large(cls):
        return cls(small_keys=50_000, string_bytes=100 << 20, hash_fields=1_000_000,
                   list_items=1_000_000, set_members=300_000, zset_members=200_000,
                   stream_entries=100_000, element_bytes=1 << 20)


# Bulk fills run inside the server: a million elements take about a second. Each is called in
# slices, so that no call blocks it for long.
BULK = {
    "hash": "for i=ARGV[1],ARGV[2] do redis.call('HSET',KEYS[1],'field:'..i,'value of '..i) end",
    "list": "for i=ARGV[1],ARGV[2] do redis.call('RPUSH',KEYS[1],'item '..i) end",
    "set": "for i=ARGV[1],ARGV[2] do redis.call('SADD',KEYS[1],'member:'..i*7) end",
    "zset": "for i=ARGV[1],ARGV[2] do redis.call('ZADD',KEYS[1],i*1.1,'m'..(i*31%1000003)) end",
    "stream": "for i=ARGV[1],ARGV[2] do "
              "redis.call('XADD',KEYS[1],(1600000000000+i*3)..'-'..(i%5),'seq',i,'t','x'..i) end",
}


def bulk(client, kind, key, count, slice_=100_000):
    for first in range(1, count + 1, slice_):
        client.call("EVAL", BULK[kind], 1, key, first, min(first + slice_ - 1, count))


def incompressible(n, seed=1):
    block = random.Random(seed).randbytes(min(n, 1 << 20))
    return (block * (n // len(block) + 1))[:n] if n else b""


def strings(rng):
    yield "SET", "str:empty", ""
    yield "SET", "str:binary", bytes(range(256))
    yield "SET", "str:crlf", b"a\r\nb\r\n$3\r\n\0\r\n"
    yield "SET", "str:lzf", b"abc" * 5000
    yield "SET", "str:lzf-edge", b"a" * 21
    for v in (0, -1, 1, 9999, 10000, 127, 128, -128, -129, 32767, 32768, -32768, 2**31 - 1, 2**31,
              -2**31, -2**31 - 1, 2**63 - 1, -2**63, "007", "1.0", "+1", "-0", " 1", 2**63):
        yield "SET", "str:int:%s" % v, v
    # thresholds: embstr 44, length encodings 6/14/32 bit, LZF from 21 on, listpack strings
    for n in (1, 11, 12, 20, 21, 43, 44, 45, 63, 64, 65, 4095, 4096, 16383, 16384, 65535, 65536):
        yield "SET", "str:len:%d" % n, rng.randbytes(n)
        yield "SET", "str:flat:%d" % n, b"z" * n
    yield "APPEND", "str:raw-short", "ab"
    yield "APPEND", "str:raw-short", "cd"
    yield "INCRBYFLOAT", "str:float", "3.0e3"
    # keys
    for k in (b"", b"\0", b"\r\n", b"a\0b\r\nc", b"12345", b"-1", b"2147483648", b"\xff\xfe",
              "ключ ☃".encode(), b"{tag}x", b"{}", b"x" * 255, b"k" * 10240, rng.randbytes(10240),
              b"with space", b'"quoted"\\'):
        yield "SET", k, b"value of odd key"
    yield "SETBIT", "bitmap:small", 7, 1
    yield "SETBIT", "bitmap:sparse", 800_000, 1
    yield "BITFIELD", "bitmap:field", "SET", "u8", "#3", 200, "INCRBY", "i16", "#9", -5


def lists(rng, size):
    yield "RPUSH", "list:small", "a", "", "3", "-3", "12", "13", "127", "128", "-4097", "x" * 63
    yield "RPUSH", "list:ints", *[str(x) for e in (8, 13, 16, 24, 31, 32, 63)
                                  for x in (2**(e - 1) - 1, 2**(e - 1), -2**(e - 1), -2**(e - 1) - 1)]
    yield "RPUSH", "list:lengths", *[rng.randbytes(n) for n in (0, 1, 63, 64, 4095, 4096, 8191)]
    yield "RPUSH", "list:large-elements", *[rng.randbytes(size) for _ in range(3)], b"q" * size
    yield "RPUSH", "list:binary", b"\0\r\n", b"\xff", b"\r\n\r\n"
    for i in range(0, 3000, 100):
        yield "RPUSH", "list:quicklist", *["element number %d" % j for j in range(i, i + 100)]
    yield "RPUSH", "list:one", "single"


def sets(rng, size):
    yield "SADD", "set:intset16", *range(-5, 60)
    yield "SADD", "set:intset32", 1, 70000, -70000
    yield "SADD", "set:intset64", 1, 2**40, -2**63, 2**63 - 1
    yield "SADD", "set:small", "a", "", "b\r\n", b"\0", "7"
    yield "SADD", "set:hashtable", *["member %d" % i for i in range(700)]
    yield "SADD", "set:large-elements", *[rng.randbytes(size) for _ in range(3)]
    yield "SADD", "set:ints-over", *range(600)


def zsets(rng, size):
    scores = ["inf", "-inf", "1.1", "1e300", "-1e300", "0", "-0.0", "3", "-7", "0.1", "1e-300",
              "0.30000000000000004", "1234567890.1234567", "9007199254740993", "1.7976931348623157e308",
              "5e-324", "123456789012345678"]
    pairs = [x for i, s in enumerate(scores) for x in (s, "m%d" % i)]
    yield "ZADD", "zset:small", *pairs
    yield "ZADD", "zset:skiplist", *pairs, *[x for i in range(300) for x in (repr(rng.random()),
                                                                            "r%d" % i)]
    yield "ZADD", "zset:same-score", *[x for i in range(200) for x in ("1", "s%03d" % i)]
    yield "ZADD", "zset:binary", "1", b"\0\r\n", "2", "", "3", "42"
    yield "ZADD", "zset:large-elements", "1", rng.randbytes(size), "2.5", b"y" * size
    yield "GEOADD", "geo", "13.361389", "38.115556", "Palermo", "15.087269", "37.502669", "Catania"


def hashes(rng, size):
    yield "HSET", "hash:small", "a", "1", "", "", "b\r\n", b"\0", "n", "-12345678901"
    yield "HSET", "hash:wide", *[x for i in range(600) for x in ("f%d" % i, "v%d" % i)]
    yield "HSET", "hash:long-value", "f", "x" * 65, "g", rng.randbytes(5000)
    yield "HSET", "hash:large-elements", "one", rng.randbytes(size), rng.randbytes(200), b"w" * size


def hyperloglogs():
    yield "PFADD", "hll:sparse", *["e%d" % i for i in range(20)]
    for i in range(0, 30000, 1000):
        yield "PFADD", "hll:dense", *["x%d" % j for j in range(i, i + 1000)]


def streams(now_ms):
    for i in range(1, 251):
        yield "XADD", "stream:plain", "%d-%d" % (1000 + i, i % 3), "f", i, "g", "v" * (i % 50)
    yield "XADD", "stream:schemas", "1-1", "a", "1"
    yield "XADD", "stream:schemas", "1-2", "b", "1", "c", "\r\n"
    yield "XADD", "stream:schemas", "2-0", "a", "", "a", b"\0\xff"
    yield "XADD", "stream:schemas", "18446744073709551614-18446744073709551615", "z", "end"
    for i in range(1, 301):
        yield "XADD", "stream:deleted", "5-%d" % i, "n", i
    yield "XDEL", "stream:deleted", *["5-%d" % i for i in range(2, 300, 3)], "5-300"
    yield "XADD", "stream:empty", "77-7", "gone", "1"
    yield "XTRIM", "stream:empty", "MAXLEN", 0
    yield "XGROUP", "CREATE", "stream:only-group", "g", "$", "MKSTREAM"
    yield "XADD", "stream:setid", "9-9", "a", "b"
    yield "XSETID", "stream:setid", "1000-1"
    for i in range(1, 41):
        yield "XADD", "stream:groups", "10-%d" % i, "job", i
    yield "XGROUP", "CREATE", "stream:groups", "workers", "0"
    yield "XGROUP", "CREATE", "stream:groups", b"bin\0\r\ngroup", "10-20"
    yield "XGROUP", "CREATE", "stream:groups", "idle", "$"
    yield "XREADGROUP", "GROUP", "workers", "alice", "COUNT", 15, "STREAMS", "stream:groups", ">"
    yield "XREADGROUP", "GROUP", "workers", b"bob\r\n", "COUNT", 10, "STREAMS", "stream:groups", ">"
    yield "XREADGROUP", "GROUP", b"bin\0\r\ngroup", "carol", "STREAMS", "stream:groups", ">"
    yield "XACK", "stream:groups", "workers", "10-1", "10-3", "10-16"
    yield "XDEL", "stream:groups", "10-4", "10-18"  # pending, but the message is gone
    yield "XCLAIM", "stream:groups", "workers", "dave", 0, "10-5", "TIME", now_ms - 500_000, \
        "RETRYCOUNT", 9
    yield "XREADGROUP", "GROUP", "idle", "nobody", "STREAMS", "stream:groups", ">"


def expiries(now_ms, rng):
    for i, ms in enumerate((10 * MINUTE, 61 * MINUTE, 86_400_000, 30 * 86_400_000,
                            400 * 86_400_000, 4_000 * 86_400_000)):
        yield "SET", "ttl:%d" % i, "v", "PX", ms + rng.randrange(1000)
    yield "HSET", "ttl:hash", "a", "b"
    yield "PEXPIREAT", "ttl:hash", now_ms + 20 * MINUTE + 123
    yield "RPUSH", "ttl:list", "a"
    yield "PEXPIREAT", "ttl:list", now_ms + 20 * MINUTE + 1
    yield "XADD", "ttl:stream", "1-1", "a", "b"
    yield "EXPIRE", "ttl:stream", 3600
    yield "SET", "ttl:removed", "v", "EX", 1000
    yield "PERSIST", "ttl:removed"


def hash_field_ttls(server, now_ms):
    if server.version < ((9, 0, 0) if server.valkey else (7, 4, 0)):
        return
    yield "HSET", "hfe:small", "a", "1", "b", "2", "c", "3"
    yield "HPEXPIREAT", "hfe:small", now_ms + 30 * MINUTE + 7, "FIELDS", 2, "a", "c"
    yield "HSET", "hfe:wide", *[x for i in range(800) for x in ("f%d" % i, "v%d" % i)]
    for i in range(0, 800, 50):
        yield "HPEXPIREAT", "hfe:wide", now_ms + (30 + i) * MINUTE, "FIELDS", 1, "f%d" % i


def vector_sets(server, rng):
    if not server.since((8, 0)):
        return
    for i in range(40):
        yield "VADD", "vec:quantized", "VALUES", 4, *[rng.uniform(-1, 1) for _ in range(4)], "e%d" % i
        yield "VADD", "vec:exact", "VALUES", 3, *[rng.uniform(-9, 9) for _ in range(3)], \
            b"bin\0\r\n%d" % i, "NOQUANT", "SETATTR", '{"year":%d}' % i
    yield "VADD", "vec:binary", "VALUES", 8, *[rng.uniform(-1, 1) for _ in range(8)], "one", "BIN"
    yield "VADD", "vec:reduced", "REDUCE", 2, "VALUES", 6, 1, 2, 3, 4, 5, 6, "small"


def newest_streams(server):
    """Idempotent producers (Redis 8.6)."""
    if not server.since((8, 6)):
        return
    for i in range(20):
        yield "XADD", "stream:idmp", "IDMP", "producer-%d" % (i % 3), "id-%d" % i, "*", "n", i
    yield "XCFGSET", "stream:idmp", "IDMP-DURATION", 5000


def everything(server, sizes, seed=1):
    """Commands for one database that make every kind of key of ordinary size."""
    rng = random.Random(seed)
    now = int(time.time() * 1000)
    yield from strings(rng)
    yield from lists(rng, sizes.element_bytes)
    yield from sets(rng, sizes.element_bytes)
    yield from zsets(rng, sizes.element_bytes)
    yield from hashes(rng, sizes.element_bytes)
    yield from hyperloglogs()
    yield from streams(now)
    yield from expiries(now, rng)
    yield from hash_field_ttls(server, now)


def big_keys(client, sizes):
    client.call("SET", "big:string", incompressible(sizes.string_bytes))
    bulk(client, "hash", "big:hash", sizes.hash_fields)
    bulk(client, "list", "big:list", sizes.list_items)
    bulk(client, "set", "big:set", sizes.set_members)
    bulk(client, "zset", "big:zset", sizes.zset_members)
    bulk(client, "stream", "big:stream", sizes.stream_entries)
    if sizes.stream_entries:
        client.call("XGROUP", "CREATE", "big:stream", "g", "0")
        client.call("XREADGROUP", "GROUP", "g", "c", "COUNT", sizes.stream_entries // 4,
                    "STREAMS", "big:stream", ">")
    client.call("PEXPIREAT", "big:hash", int(time.time() * 1000) + 90 * MINUTE + 11)


def fill(server, sizes=None, seed=1, dbs=None, newest=False):
    """Fill a server: every kind in the first and last database, some of it in those between.
    newest: also kinds that few servers know."""
    sizes = sizes or Sizes()
    dbs = list(dbs if dbs is not None else range(sizes.dbs))
    with server.connect(timeout=300) as c:
        rng = random.Random(seed)
        for db in dbs:
            c.call("SELECT", db)
            now = int(time.time() * 1000)
            if db in (dbs[0], dbs[-1]):
                small = Sizes(element_bytes=min(sizes.element_bytes, 20_000))
                c.feed(everything(server, sizes if db == dbs[0] else small, seed + db))
                if newest:
                    c.feed(vector_sets(server, rng))
                    c.feed(newest_streams(server))
            else:
                c.feed(streams(now))
                c.feed(expiries(now, rng))
                c.feed(hyperloglogs())
            n = sizes.small_keys // len(dbs)
            c.feed(small_keys(n, rng, db), batch=2000)
        c.call("SELECT", dbs[0])
        big_keys(c, sizes)
        if server.version >= (7, 0, 0):
            c.call("FUNCTION", "LOAD", "REPLACE", FUNCTION)
            c.call("FUNCTION", "LOAD", "REPLACE", FUNCTION_2)
        c.call("SCRIPT", "LOAD", "return redis.call('GET', KEYS[1])")


def small_keys(count, rng, db):
    for i in range(count):
        key = "key:%d:%d" % (db, i)
        k = i % 8
        if k == 0:
            yield "SET", key, rng.randbytes(rng.randrange(120)), "PX", 600_000 + rng.randrange(10**9)
        elif k == 1:
            yield "HSET", key, "name", "n%d" % i, "age", i, "blob", rng.randbytes(20)
        elif k == 2:
            yield "RPUSH", key, *["i%d" % j for j in range(i % 20 + 1)]
        elif k == 3:
            yield "SADD", key, *range(i % 20 + 1)
        elif k == 4:
            yield "ZADD", key, rng.random(), "a", i, "b"
        else:
            yield "SET", key, "value %d" % i if k < 7 else i


def count_keys(server):
    with server.connect() as c:
        return sum(int(v.split("keys=")[1].split(",")[0]) for k, v in c.info("keyspace").items()
                   if k.startswith("db") and "keys=" in v)


def databases(server):
    with server.connect() as c:
        try:
            return int(c.call("CONFIG", "GET", "databases")[1])
        except (ReplyError, IndexError):
            return 16
