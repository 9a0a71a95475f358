# SPDX-License-Identifier: BSD-3-Clause
# `keyhaul restore`: every golden dump and AOF into real servers, judged by their manifests.
import gzip
import os
import pathlib
import re

import pytest

from lib.canon import differences, has_field_ttl, read_manifest, string
from lib.matrix import known_names

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"
DUMPS = sorted(p.stem for p in (GOLDEN / "rdb").glob("*.rdb"))
RELEASE_CANDIDATE = "redis-7.0-rc1-prerelease"  # no released server reads it
SEEN = {}  # large lists that were taken apart already


EVERY_DUMP = ["default", "valkey-9.1", "redis-8.6", "redis-6.0"]
# Into all others go those that have all types and encodings among them.
EVERY_TYPE = ["redis-2.4.18", "redis-2.8.24", "redis-6.2.16", "redis-7.0.15", "redis-7.2.6-allkeys-lfu",
              "redis-7.4-rc1-prerelease", "redis-7.4.1", "redis-8.6.3", "valkey-9.1.2"]


@pytest.fixture(params=EVERY_DUMP)
def into(request, running):
    return running(request.param)


# -- RDB ---------------------------------------------------------------------------------------
def cannot_hold(server, dump, key):
    if key.type == "module":  # a vector set counts as one, elsewhere than in the dumps of modules
        return dump.endswith("-module") or server.valkey or server.version < (8, 0, 0)
    return bool(key.fields) and not has_field_ttl(server)


def load_manifest(dump):
    """The manifest, and which of its keys were past their time when saved."""
    m = read_manifest(GOLDEN / "rdb" / (dump + ".tsv"))
    return m, {k.at for k in m.keys.values() if 0 <= k.expires < 2_000_000_000_000}


@pytest.mark.parametrize("dump", [d for d in DUMPS if d != RELEASE_CANDIDATE])
def test_dump(into, restore, dump):
    check_dump(into, restore, dump)


@pytest.mark.parametrize("dump", EVERY_TYPE)
@pytest.mark.parametrize("other", [n for n in known_names() if n not in EVERY_DUMP])
def test_dump_into_others(running, restore, other, dump):
    check_dump(running(other), restore, dump)


def check_dump(into, restore, dump):
    m, dead = load_manifest(dump)
    refused = {k.at for k in m.keys.values() if cannot_hold(into, dump, k)} - dead
    functions_too = bool(m.functions) and into.version < (7, 0, 0)
    k = restore(GOLDEN / "rdb" / (dump + ".rdb"), into, "--on-error", "continue")
    k.expect(4 if refused or functions_too else 0)
    for _, name in refused:
        assert '"%s"' % name.decode() in k.stderr
    assert differences(into, m, absent=refused | dead, seen=SEEN) == []
    assert m.module_aux == ("belongs to no key is not moved" in k.stderr)


@pytest.mark.parametrize("dump, words", [
    ("redis-7.4.1", "hfe:.* of database 0|database 0.*hfe:"),
    ("redis-6.2.16-module", "mod:"),
    (RELEASE_CANDIDATE, "byte 86: functions as release candidates of Redis 7.0 wrote them"),
])
def test_what_cannot_be_held_stops(running, restore, dump, words):
    """--on-error stop: the first such key is named, status 1."""
    k = restore(GOLDEN / "rdb" / (dump + ".rdb"), running("default"))
    k.expect(1, words)


# -- AOF ---------------------------------------------------------------------------------------
AOFS = sorted(p.stem for p in (GOLDEN / "aof").glob("*.tsv"))
OPEN_MULTI = (b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$12\r\nbefore multi\r\n$1\r\n1\r\n"
              b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$12\r\ninside multi\r\n$1\r\n1\r\n"
              b"*3\r\n$3\r\nSET\r\n$14\r\ninside multi 2\r\n$1\r\n1\r\n")


def unpack(name, folder):
    """The golden AOF as its server left it: path of the file, or of the folder with a manifest."""
    there = GOLDEN / "aof" / name
    if not there.is_dir():
        path = folder / "appendonly.aof"
        path.write_bytes(gzip.decompress((GOLDEN / "aof" / (name + ".aof.gz")).read_bytes()))
        return path
    path = folder / "appendonlydir"
    path.mkdir(exist_ok=True)
    for f in there.iterdir():
        data = f.read_bytes()
        if f.suffix == ".gz":
            (path / f.stem).write_bytes(gzip.decompress(data))
        else:
            (path / f.name).write_bytes(data)
    return path


def last_file(path):
    return path if path.is_file() else max(path.glob("*.incr.aof"))


def expected(name):
    return read_manifest(GOLDEN / "aof" / (name + ".tsv"))


# Written by HSETEX, or with fields whose time is over: the manifest shows no time in them.
MORE_FIELD_TIMES = {b"hfl", b"hfe:persisted", b"hfe:live"}


def cannot_replay(server, key):
    """Some of its commands are not known to this server."""
    if key.type == "module":  # vector sets
        return server.valkey or server.version < (8, 0, 0)
    # XCLAIM of a message that is gone adds nothing from 7.0 on, also when a server itself loads it
    if key.name == b"stream:groups" and server.version >= (7, 0, 0):
        return True
    return (key.fields or key.name in MORE_FIELD_TIMES) and not has_field_ttl(server)


def older(server, name):
    """Does the server lack more than types: options, subcommands?"""
    version = tuple(int(x) for x in name.split("-")[1].split(".")[:2])
    return server.version[:2] < (6, 2) and version > server.version[:2]


def check_aof(server, k, m):
    """Ended with the right status; all of the manifest is there but what is named in the log."""
    loose = [key for key in m.keys.values() if cannot_replay(server, key)]
    assert k.status() == (4 if " refused " in k.stderr else 0), k.said[-3000:]
    refused = {line.split('"')[1].encode() for line in k.stderr.splitlines()
               if "target refused" in line and '"' in line}
    assert refused <= {key.name for key in loose} | {b"vset:bin"}
    assert differences(server, m, loose={key.at for key in loose}) == []


@pytest.mark.parametrize("name", AOFS)
def test_aof(into, restore, tmp_path, name):
    if older(into, name):
        pytest.skip("commands of a newer server than this")
    k = restore(unpack(name, tmp_path), into, "--on-error", "continue")
    k.wait()
    assert "not whole" not in k.stderr
    check_aof(into, k, expected(name))


@pytest.mark.parametrize("name", [n for n in AOFS if n.endswith("-rewritten")])
def test_aof_cut_in_its_last_command(running, restore, tmp_path, name):
    """As a newer server: 2.4 itself refuses to load such a file at all."""
    path, m = unpack(name, tmp_path), expected(name)
    os.truncate(last_file(path), last_file(path).stat().st_size - 5)
    if name.startswith("redis-2.4"):
        m.keys[0, b"ttl:future"].expires = -1  # what is cut is its EXPIREAT
    k = restore(path, running("default"), "--on-error", "continue")
    k.wait()
    assert re.search(r"at byte \d+, its last, is not whole; it is left out", k.stderr)
    check_aof(k.target, k, m)


@pytest.mark.parametrize("name", [n for n in AOFS if n.endswith("-rewritten")])
def test_aof_with_an_open_transaction(running, restore, tmp_path, name):
    """None of it is applied, as by newer servers; 2.4 refuses, 3.2 applied what there was."""
    path, m = unpack(name, tmp_path), expected(name)
    with open(last_file(path), "ab") as f:
        f.write(OPEN_MULTI)
    m.keys[0, b"before multi"] = string(0, b"before multi", b"1")
    k = restore(path, running("default"), "--on-error", "continue")
    k.wait()
    assert "not whole" in k.stderr
    check_aof(k.target, k, m)


@pytest.mark.parametrize("name", [n for n in AOFS if (GOLDEN / "aof" / n.replace(
    "rewritten", "rewriting")).is_dir() and n.endswith("-rewritten")])
def test_aof_of_two_increments(running, restore, tmp_path, name):
    path, m = unpack(name, tmp_path), expected(name)
    unpack(name.replace("rewritten", "rewriting"), tmp_path)
    m.keys[0, b"during rewrite"] = string(0, b"during rewrite", b"1")
    m.keys[0, b"tx:a"] = string(0, b"tx:a", b"changed during rewrite")
    k = restore(path, running("default"), "--on-error", "continue")
    k.wait()
    check_aof(k.target, k, m)
