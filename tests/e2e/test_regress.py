# SPDX-License-Identifier: BSD-3-Clause
# Faults found by review: each of these once lost, misplaced or miscounted something, or hung.
import time

import pytest

from lib.compare import assert_equal
from lib.fakeprimary import rdb_file, rdb_string_record
from lib.resp import encode, wait_for


@pytest.mark.parametrize("hidden", [False, True], ids=["told", "CONFIG denied"])
def test_database_the_target_lacks_comes_into_use(server, keyhaul, hidden):
    """EXEC goes on past a SELECT that fails: what follows must not land in the database before."""
    source, target = server("source"), server("target", config={"databases": "4"})
    source.call("SET", "of 0", "x")
    uri = None
    if hidden:
        target.call("ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all", "-config")
        uri = target.uri(user="u", password="p")
    k = keyhaul(source, target, target_uri=uri)
    k.wait_caught_up()
    with source.connect() as c:
        c.pipeline([("MULTI",), ("SET", "before", "1"), ("SELECT", 9), ("SET", "astray", "1"),
                    ("SELECT", 0), ("SET", "after", "1"), ("EXEC",)])
    k.expect(1, "database 9")
    assert target.call("EXISTS", "astray") == 0


@pytest.mark.parametrize("before", [0, 3])
def test_stop_in_the_middle_of_a_long_command(fake, target, keyhaul, before):
    """What came whole before it is applied, nothing of it is, and nobody waits for its rest."""
    f = fake()
    k = keyhaul(f, target)
    f.stream(("SELECT", "0"), ("SET", "first", "1"))
    wait_for(lambda: target.call("GET", "first") == b"1")
    whole = b"".join(encode(("SET", "b%d" % i, "1")) for i in range(before))
    f.stream_bytes(whole + encode(("SET", "long", "x" * (9 << 20)))[:-300_000])
    time.sleep(1)
    assert k.terminate(10) == 0, k.said
    assert target.call("EXISTS", "long") == 0
    assert target.call("EXISTS", *["b%d" % i for i in range(3)]) == before


def test_source_lost_in_a_transaction(fake, target, keyhaul):
    """The group is not applied, but what came before it in the same read is."""
    f = fake()
    k = keyhaul(f, target, "--retry-time", "0s")
    f.stream(("SELECT", "0"), ("SET", "before", "1"), ("MULTI",), ("SET", "inside", "1"))
    time.sleep(0.5)
    f.hang_up()
    k.expect(1, "source")
    assert target.call("EXISTS", "inside") == 0
    assert target.call("GET", "before") == b"1"


@pytest.mark.parametrize("key_bytes", [300_000, 7 << 20])
def test_empty_string_under_a_long_key(source, target, keyhaul, key_bytes):
    with source.connect() as c:
        c.call("SET", b"k" * key_bytes, "")
        c.call("SET", b"p" * key_bytes, "", "PX", 600_000)
        c.call("SET", b"l" * key_bytes, "v" * 1000)
        c.call("RPUSH", b"r" * key_bytes, "", "1")
    k = keyhaul(source, target, "--until", "caught-up")
    k.expect(0)
    assert_equal(source, target)


def test_fields_with_expiry_for_a_target_without(servers, server, keyhaul):
    """Past the refused hash the load goes on at once."""
    name = next((n for n in servers if n.startswith(("redis-8", "valkey-9"))), None)
    if not name:
        pytest.skip("needs a server of Redis 7.4+ or Valkey 9")
    source = server("source", binary=servers[name])
    target = server("target", binary=servers["default"])
    with source.connect() as c:
        for i in range(20):
            c.call("HSET", "h%d" % i, "f", "v", "g", "w")
            c.call("HPEXPIRE", "h%d" % i, 600_000, "FIELDS", 1, "f")
            c.call("SET", "s%d" % i, "v")
    k = keyhaul(source, target, "--until", "caught-up", "--on-error", "continue",
                "--on-conflict", "overwrite")
    k.expect(4, timeout=20)
    assert target.call("EXISTS", *["s%d" % i for i in range(20)]) == 20
    assert k.metrics()["errors"] == 20


@pytest.mark.parametrize("how", ["while queueing", "while executing"])
def test_more_refusals_than_are_kept(source, target, keyhaul, how):
    """Each refused write of a large transaction is counted, however many there are."""
    n = 6000
    if how == "while queueing":
        target.call("ACL", "SETUSER", "default", "-setbit")
    source.call("SET", "s", "x")
    k = keyhaul(source, target, "--on-error", "continue",
                "--on-conflict", "overwrite")
    k.wait_caught_up()
    target.call("DEL", "s")
    target.call("RPUSH", "s", "x")
    with source.connect() as c:
        c.pipeline([("MULTI",)] + [("SETBIT", "s", 8 + i, 1) for i in range(n)] + [("EXEC",)])
    k.wait_metric(lambda m: m["errors"] >= n)
    k.wait_caught_up()
    assert k.terminate() == 4
    assert k.metrics()["errors"] == n


def test_long_key_with_a_long_value_and_a_relative_time(fake, target, keyhaul):
    f = fake()
    k = keyhaul(f, target)
    key = "k" * 100_000
    f.stream(("SELECT", "0"), ("SET", "", "kept"), ("SET", key, "x" * (5 << 20), "EX", "100"),
             ("SET", "last", "1"))
    wait_for(lambda: target.call("GET", "last") == b"1")
    assert target.call("PTTL", "") == -1
    wait_for(lambda: 90_000 < target.call("PTTL", key) <= 100_000, 5)  # held until it is quiet
    assert k.terminate() == 0


@pytest.mark.parametrize("diskless", [False, True], ids=["disk", "diskless"])
def test_source_closes_behind_the_snapshot(fake, target, keyhaul, diskless):
    """--type full: an ACK that the source has not read must not cut off what it sent."""
    body = b"".join(rdb_string_record("k%d" % i, "v" * 100) for i in range(20_000))
    f = fake(rdb=rdb_file(body), diskless=diskless, close_after_rdb=True, version="7.0.15")
    keyhaul(f, target, "--type", "full").expect(0)
    assert target.call("DBSIZE") == 20_000


def test_hardly_any_spool(source, target, keyhaul):
    """What is kept aside to be sent whole does not depend on the quota."""
    with source.connect() as c:
        c.call("SET", "big", "z" * (20 << 20))
        k = keyhaul(source, target, "--spool-max", "1")
        k.wait_caught_up()
        c.call("SET", "long", "q" * (6 << 20))
    k.finish()
    assert_equal(source, target)
