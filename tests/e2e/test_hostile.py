# SPDX-License-Identifier: BSD-3-Clause
# A source that sends broken or evil bytes: an error in clear words and status 1, no crash, no hang.
import time

import pytest

from lib.fakeprimary import rdb_file, rdb_len, rdb_str, rdb_string_record
from lib.resp import encode, wait_for

GOOD = rdb_string_record("key", "value")


def ends_with_error(k, timeout=20):
    st = k.wait(timeout)
    assert st == 1, "status %s:\n%s" % (st, k.said)
    assert k.said.strip(), "ended without a word"
    return k.said.lower()


@pytest.mark.parametrize("diskless", [False, True], ids=["disk", "diskless"])
def test_good_snapshot(fake, target, keyhaul, diskless):
    """The fake is good enough: with an honest snapshot all goes well."""
    f = fake(rdb=rdb_file(GOOD), diskless=diskless)
    k = keyhaul(f, target, "--retry-time", "0s")
    f.stream(("SELECT", "0"), ("SET", "last", "1"))
    wait_for(lambda: target.call("GET", "last") == b"1")
    assert target.call("GET", "key") == b"value"
    wait_for(lambda: f.acks and f.acks[-1] == f.sent, 5)
    assert k.terminate() == 0


def test_no_checksum_is_taken(fake, target, keyhaul):
    f = fake(rdb=rdb_file(GOOD, checksum=0))
    k = keyhaul(f, target, "--retry-time", "0s")
    f.stream(("SELECT", "0"), ("SET", "last", "1"))
    wait_for(lambda: target.call("GET", "last") == b"1")
    assert k.terminate() == 0


@pytest.mark.parametrize("diskless", [False, True], ids=["disk", "diskless"])
def test_wrong_checksum(fake, target, keyhaul, diskless):
    f = fake(rdb=rdb_file(GOOD, checksum=12345), diskless=diskless)
    assert "checksum" in ends_with_error(keyhaul(f, target, "--retry-time", "0s"))


BROKEN = {
    "unknown type": b"\xc8" + rdb_str("key") + b"x",
    "unknown opcode": b"\xf1\x01",
    "string of 2^60": b"\0" + rdb_str("k") + b"\x81" + b"\x10" + b"\0" * 7,
    "list of 2^60": b"\1" + rdb_str("k") + b"\x81" + b"\x10" + b"\0" * 7,
    "hash of 2^63": b"\4" + rdb_str("k") + b"\x81" + b"\x80" + b"\0" * 7,
    "key of 2^62": b"\0\x81\x40" + b"\0" * 7,
    "bad string kind": b"\0" + rdb_str("k") + b"\xc7",
    "lzf bomb": b"\0" + rdb_str("k") + b"\xc3" + rdb_len(4) + b"\x81\0\0\x10" + b"\0" * 5 + b"abcd",
    "lzf reaching back": b"\0" + rdb_str("k") + b"\xc3" + rdb_len(3) + rdb_len(40) + b"\xff\x01\xff",
    "lzf too short": b"\0" + rdb_str("k") + b"\xc3" + rdb_len(2) + rdb_len(40) + b"\x00a",
    "listpack cut": b"\x10" + rdb_str("k") + rdb_str(b"\x20\0\0\0\x02\0\x81a\x02\xff"),
    "ziplist cut": b"\x0d" + rdb_str("k") + rdb_str(b"\xff\xff\xff\xff\x0a\0\0\0\x02\0\0\xff"),
    "intset size": b"\x0b" + rdb_str("k") + rdb_str(b"\x03\0\0\0\x01\0\0\0\1\1"),
    "stream of nothing": b"\x15" + rdb_str("k") + rdb_len(1) + rdb_str("short"),
    "module value": b"\x07" + rdb_str("k") + b"\x81" + b"\x11" * 8 + b"\x09",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_snapshot(fake, target, keyhaul, name):
    f = fake(rdb=rdb_file(BROKEN[name] + GOOD))
    k = keyhaul(f, target, "--retry-time", "0s")
    end = time.monotonic() + 5
    f.wait_replica()
    while k.status() is None and time.monotonic() < end:
        f.stream(("PING",))  # a living source: silence must not be what ends it
        time.sleep(0.05)
    ends_with_error(k, 1)
    assert k.peak_rss_mb() <= 64


HEADERS = {
    "not a snapshot": dict(rdb=b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100),
    "version of the future": dict(rdb=rdb_file(GOOD, version=9999)),
    "short": dict(rdb=rdb_file(GOOD)[:-12], announce=len(rdb_file(GOOD)), close_after_rdb=True),
    "longer than announced": dict(rdb=rdb_file(GOOD) + b"x" * 50, announce=len(rdb_file(GOOD))),
    "announced too short": dict(rdb=rdb_file(GOOD), announce=20),
    "announced 0": dict(rdb=rdb_file(GOOD), announce=0),
    "announced negative": dict(rdb=rdb_file(GOOD), announce=-5),
    "psync refused": dict(psync_reply=b"-ERR unknown command 'PSYNC'\r\n"),
    "psync garbage": dict(psync_reply=b"\x16\x03\x01 what is this\r\n"),
    "psync odd": dict(psync_reply=b"+FULLRESYNC\r\n"),
    "psync odd offset": dict(psync_reply=b"+FULLRESYNC " + b"f" * 40 + b" many\r\n"),
    "psync endless line": dict(psync_reply=b"+" + b"x" * 3_000_000),
    "psync continue": dict(psync_reply=b"+CONTINUE\r\n*1\r\n$4\r\nEVIL\r\n"),
    "no end of it": dict(psync_reply=b"+FULLRESYNC " + b"f" * 40 + b" 0\r\n$" + b"9" * 40 + b"\r\n"),
    "eof mark short": dict(psync_reply=b"+FULLRESYNC " + b"f" * 40 + b" 0\r\n$EOF:abc\r\n"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_broken_transfer(fake, target, keyhaul, name):
    f = fake(**HEADERS[name])
    k = keyhaul(f, target, "--retry-time", "0s", "--io-timeout", "3s")
    ends_with_error(k)
    assert k.peak_rss_mb() <= 64


def test_diskless_wrong_end_mark(fake, target, keyhaul):
    good = rdb_file(GOOD)
    head = b"+FULLRESYNC " + b"f" * 40 + b" 0\r\n$EOF:" + b"m" * 40 + b"\r\n"
    f = fake(psync_reply=head + good + b"n" * 40)
    ends_with_error(keyhaul(f, target, "--retry-time", "0s", "--io-timeout", "3s"))


STREAM = {
    "garbage": b"\x00\xff\x17garbage\r\n" * 10,
    "bulk of 2^60": b"*2\r\n$3\r\nSET\r\n$1152921504606846976\r\nx",
    "array of 2^60": b"*1152921504606846976\r\n",
    "array of a billion": b"*1000000000\r\n" + b"$1\r\na\r\n" * 1000,
    "negative array": b"*-5\r\n",
    "negative bulk": b"*2\r\n$3\r\nGET\r\n$-1\r\n",
    "not a number": b"*two\r\n",
    "bulk without end": b"*1\r\n$4\r\nPINGxx",
    "error reply": b"-ERR I am not well\r\n",
    "select what": encode(["SELECT", "many"]),
    "select far": encode(["SELECT", "99999999999999999999"]),
    "unknown command": encode(["FROBNICATE", "k", "v"]),
    "too few arguments": encode(["MOVE"]) + encode(["SET"]),
    "endless line": b"*" + b"1" * 3_000_000,
}


@pytest.mark.parametrize("name", STREAM)
def test_broken_stream(fake, target, keyhaul, name):
    f = fake(rdb=rdb_file(GOOD))
    k = keyhaul(f, target, "--retry-time", "0s", "--io-timeout", "3s")
    f.stream(("SELECT", "0"), ("SET", "before", "1"))
    wait_for(lambda: target.call("GET", "before") == b"1")
    f.stream_bytes(STREAM[name])
    words = ends_with_error(k)
    assert name == "array of a billion" or "nothing heard" not in words, "not seen as an error"
    if name == "unknown command":
        assert "frobnicate" in words
    keys = [key for key in target.call("KEYS", "*") if not key.startswith(b"keyhaul:checkpoint:")]
    assert len(keys) == 2
    assert k.peak_rss_mb() <= 64


@pytest.mark.parametrize("commands", [["EXEC"], ["MULTI", "MULTI", "EXEC"]], ids=" ".join)
def test_odd_transactions(fake, target, keyhaul, commands):
    """No server sends these: an error, or what follows is still done right."""
    f = fake(rdb=rdb_file(GOOD))
    k = keyhaul(f, target, "--retry-time", "0s")
    f.stream(("SELECT", "0"), *[(c,) for c in commands], ("SET", "last", "1"))
    wait_for(lambda: k.status() is not None or target.call("GET", "last") == b"1")
    assert k.status() == 1 or k.terminate() == 0


def test_inline_and_newlines_in_the_stream(fake, target, keyhaul):
    """What old servers really send: inline SELECT, newlines as keep-alive."""
    f = fake(rdb=rdb_file(GOOD))
    k = keyhaul(f, target, "--retry-time", "0s")
    f.stream_bytes(b"select 3\r\n" + encode(["set", "k", "v"]) + b"\n\n" + encode(["PING"]) +
                   encode(["SELECT", "0"]) + encode(["SET", "last", "1"]))
    wait_for(lambda: target.call("GET", "last") == b"1")
    assert target.call("GET", "k", db=3) == b"v"
    assert k.terminate() == 0


def test_one_byte_at_a_time(fake, target, keyhaul):
    f = fake(rdb=rdb_file(GOOD))
    k = keyhaul(f, target, "--retry-time", "0s")
    data = encode(["SELECT", "0"]) + encode(["SET", "k\r\n", b"*1\r\n$4\r\nPING\r\n"]) + \
        encode(["MULTI"]) + encode(["INCR", "n"]) + encode(["EXEC"]) + encode(["SET", "last", "1"])
    for i in range(len(data)):
        f.stream_bytes(data[i:i + 1])
    wait_for(lambda: target.call("GET", "last") == b"1")
    assert target.call("GET", "k\r\n") == b"*1\r\n$4\r\nPING\r\n"
    assert target.call("GET", "n") == b"1"
    assert k.terminate() == 0


def test_getack_is_answered_at_once(fake, target, keyhaul):
    f = fake(rdb=rdb_file(GOOD))
    k = keyhaul(f, target, "--retry-time", "0s")
    f.stream(("SELECT", "0"), ("SET", "last", "1"))
    wait_for(lambda: target.call("GET", "last") == b"1")
    at = f.sent
    f.stream(("REPLCONF", "GETACK", "*"))
    wait_for(lambda: f.acks and f.acks[-1] >= at, 5)
    wait_for(lambda: f.acks[-1] == f.sent, 5)
    assert k.terminate() == 0
