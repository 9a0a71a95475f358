# SPDX-License-Identifier: BSD-3-Clause
# --on-unsupported: a value that the target cannot hold as it is stops the task, is left out, or is
# kept as far as it can be; never in silence. The source is made of bytes, so any server will do.
import struct

import pytest

from lib.fakeprimary import rdb_file, rdb_len, rdb_str, rdb_string_record
from lib.resp import wait_for

DAY_MS = 86_400_000
FAR_MS = 4_102_444_800_000  # 2100


def field_expiry_hash(key, n=3, value=b"v"):
    """RDB type 24: minimum, then expiry relative to it (0: none), field, value."""
    out = b"\x18" + rdb_str(key) + struct.pack("<q", FAR_MS) + rdb_len(n)
    for i in range(n):
        out += rdb_len(0 if i % 2 else 1 + i) + rdb_str("f%d" % i) + rdb_str(value)
    return out


def array(key):
    """RDB type 28 (Redis 8.8): one element, no cursor."""
    return b"\x1c" + rdb_str(key) + rdb_len(1) + rdb_len(0) + rdb_len(0) + rdb_len(0) + rdb_str("v")


def snapshot(*records):
    return rdb_file(b"".join((rdb_string_record("before", "1"),) + records +
                             (rdb_string_record("after", "2"),)), version=14)


KINDS = {
    "small hash": field_expiry_hash("odd"),
    "large hash": field_expiry_hash("odd", n=3000, value=b"x" * 500),
    "array": array("odd"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_fail_names_the_key(fake, target, keyhaul, kind):
    k = keyhaul(fake(rdb=snapshot(KINDS[kind])), target)
    k.expect(1)
    assert '"odd"' in k.said and "--on-unsupported" in k.said
    assert target.call("EXISTS", "odd") == 0


@pytest.mark.parametrize("kind", KINDS)
def test_fail_goes_on_by_on_error(fake, target, keyhaul, kind):
    k = keyhaul(fake(rdb=snapshot(KINDS[kind])), target, "--on-error", "continue")
    wait_for(lambda: target.call("GET", "after") == b"2")
    assert k.terminate() == 4
    assert '"odd"' in k.said
    assert target.call("EXISTS", "odd") == 0


@pytest.mark.parametrize("kind", KINDS)
def test_skip_leaves_it_out(fake, target, keyhaul, kind):
    k = keyhaul(fake(rdb=snapshot(KINDS[kind])), target, "--on-unsupported", "skip")
    wait_for(lambda: target.call("GET", "after") == b"2")
    assert k.terminate() == 0
    assert '"odd"' in k.said and "1 key lost everything" in k.said
    assert target.call("EXISTS", "odd") == 0
    m = k.metrics()
    assert m["keys_unsupported"] == 1 and m["errors"] == 0 and m["keys_written"] == 2


@pytest.mark.parametrize("kind", KINDS)
def test_degrade_keeps_what_can_be_kept(fake, target, keyhaul, kind):
    k = keyhaul(fake(rdb=snapshot(KINDS[kind])), target, "--on-unsupported", "degrade")
    wait_for(lambda: target.call("GET", "after") == b"2")
    assert k.terminate() == 0
    assert '"odd"' in k.said
    if kind == "array":  # nothing of it can be kept before Redis 8.8
        assert target.call("EXISTS", "odd") == 0
        assert k.metrics()["keys_unsupported"] == 1
        return
    n, value = (3, b"v") if kind == "small hash" else (3000, b"x" * 500)
    got = target.call("HGETALL", "odd")
    assert dict(zip(got[::2], got[1::2])) == {b"f%d" % i: value for i in range(n)}
    assert "lost the expiry of hash fields" in k.said
    assert k.metrics()["keys_written"] == 3
