# SPDX-License-Identifier: BSD-3-Clause
# `keyhaul backup`: a server started on the file holds what the source held, redis-check-rdb takes
# it, nothing half-written is ever there under its name.
import json
import os
import pathlib
import resource
import subprocess
import tempfile

import pytest

from lib.compare import assert_equal
from lib.dataset import Sizes, count_keys, fill
from lib.fakeprimary import rdb_file, rdb_string_record
from lib.inspect import lines, report, run
from lib.mover import Backup
from lib.resp import wait_for
from lib.server import die_with_parent
from test_restore import DUMPS, RELEASE_CANDIDATE, cannot_hold, load_manifest

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture
def backup(cleanup):
    """backup(source, path, *options): a running `keyhaul backup`."""
    things, folder = cleanup

    def make(source, path, *options, **kw):
        b = Backup(source, path, *options, folder=tempfile.mkdtemp(dir=folder), **kw)
        things.append(b)
        return b
    return make


@pytest.fixture
def started_on(server):
    """started_on(path): a server that has loaded the file."""
    def start(path):
        return loaded(server, path)
    return start


def loaded(server, path, **kw):
    s = server("loaded", config={"dir": str(path.parent), "dbfilename": path.name}, **kw)

    def ready():
        """the file is loaded"""
        with s.connect() as c:
            return c.info("persistence")["loading"] == "0"
    wait_for(ready, 60)
    return s


def check_rdb(path, server):
    tool = server.binary.replace("-server", "-check-rdb")  # redis-, valkey-, redict-
    assert os.path.exists(tool), tool
    r = subprocess.run([tool, str(path)], capture_output=True, text=True)
    assert r.returncode == 0 and "RDB looks OK" in r.stdout, r.stdout[-2000:]


def assert_nothing_left(folder, *but):
    assert sorted(os.listdir(folder)) == sorted(but)


# -- whole and in part -------------------------------------------------------------------------
@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_everything(server, backup, started_on, tmp_path, diskless):
    source = server("source", config={"repl-diskless-sync": diskless})
    fill(source)
    path = tmp_path / "all.rdb"
    b = backup(source, path).expect(0, r"\ndone\.\n", str(path)[:30])
    assert_nothing_left(tmp_path, "all.rdb")
    check_rdb(path, source)
    assert_equal(source, started_on(path))
    assert b.peak_rss_mb() <= 64
    m = b.metrics()
    assert m["keys_written"] == count_keys(source) and m["outcome"] == "done"
    assert m["bytes_written"] == path.stat().st_size == m["snapshot_bytes_decoded"]
    assert m["target"] == {"file": str(path)}


def test_a_selection(server, backup, started_on, tmp_path):
    """Databases 3 and 7 and the functions: nothing else, and no field of replication."""
    source = server("source")
    fill(source, Sizes(small_keys=500))
    path = tmp_path / "part.rdb"
    b = backup(source, path, "--db", "3,7").expect(0)
    check_rdb(path, source)
    assert_equal(source, started_on(path), db_map={3: 3, 7: 7})
    r = report(path)
    assert {d["db"] for d in r["databases"]} == {3, 7}
    assert not [name for name in r["aux"] if name.startswith("repl-")]
    assert r["aux"]["redis-ver"] == ".".join(map(str, source.version))
    assert b.metrics()["keys_filtered"] == count_keys(source) - r["keys"] > 0
    whole, only = tmp_path / "whole.rdb", tmp_path / "by-uri.rdb"
    backup(source, whole).expect(0)
    assert any(name.startswith("repl-") for name in report(whole)["aux"])
    backup(source, only, source_uri=source.uri() + "/3").expect(0)
    assert {d["db"] for d in report(only)["databases"]} == {3}


def test_an_empty_server(server, backup, started_on, tmp_path):
    source, path = server("source"), tmp_path / "empty.rdb"
    backup(source, path).expect(0)
    check_rdb(path, source)
    assert count_keys(started_on(path)) == 0


def test_while_it_is_written_to(server, backup, started_on, tmp_path):
    """A moment of the source: a counter set with each write tells which."""
    source = server("source", config={"rdb-key-save-delay": "200"})
    fill(source, Sizes(small_keys=3000))
    path = tmp_path / "moment.rdb"
    b = backup(source, path)
    written = 0
    with source.connect() as c:
        while b.status() is None:
            written += 1
            c.pipeline([("MULTI",), ("SET", "pair:a", written), ("SET", "pair:b", written),
                        ("EXEC",)])
    b.expect(0)
    s = started_on(path)
    assert s.call("GET", "pair:a") == s.call("GET", "pair:b")
    assert written > 20


@pytest.mark.parametrize("name", ["redis-6.0", "redis-8.0", "redis-8.6", "valkey-8.1", "valkey-9.1",
                                  "redict-7.3"])
def test_other_servers(servers, server, backup, started_on, tmp_path, name):
    if name not in servers:
        pytest.skip("no server %s here (KEYHAUL_SERVERS)" % name)
    source = server("source", binary=servers[name])
    fill(source, Sizes(small_keys=500))
    path = tmp_path / "other.rdb"
    backup(source, path).expect(0)
    assert_equal(source, loaded(server, path, binary=servers[name]))


def test_a_source_with_its_checksum_off(server, backup, tmp_path):
    """It is computed nevertheless: `redis-check-rdb` verifies it."""
    source = server("source", config={"rdbchecksum": "no"})
    source.call("SET", "a", "1")
    path = tmp_path / "sum.rdb"
    backup(source, path).expect(0)
    check_rdb(path, source)
    assert path.read_bytes()[-8:] != bytes(8)


# -- the file ----------------------------------------------------------------------------------
def test_what_is_there_is_not_replaced(source, backup, tmp_path):
    path = tmp_path / "there.rdb"
    path.write_text("precious")
    source.call("SET", "a", "1")
    backup(source, path).expect(3, "there already; --force replaces it")
    assert path.read_text() == "precious"
    assert_nothing_left(tmp_path, "there.rdb")
    backup(source, path, "--force").expect(0)
    assert report(path)["keys"] == 1
    assert source.call("INFO", "replication").count(b"slave0") == 0


@pytest.mark.parametrize("path, status, words", [
    ("/nowhere/at/all.rdb", 1, "cannot create /nowhere/at/all.rdb.tmp: No such file"),
    ("/tmp", 2, "is a directory; name the file to make in it"),
    ("/dev/null", 2, "is no regular file"),
])
def test_odd_places(source, backup, path, status, words):
    backup(source, path).expect(status, words)
    assert source.call("INFO", "stats").count(b"sync_full:0") == 1  # told before it forks


def test_no_room(source, backup, tmp_path):
    """A file-size limit stands for the full disk: said, and nothing is left."""
    for i in range(6):
        source.call("SET", "large:%d" % i, os.urandom(5_000_000))

    def limited():
        die_with_parent()
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, 20_000_000))
    path = tmp_path / "large.rdb"
    backup(source, path, preexec=limited).expect(1, "cannot write .*large.rdb.tmp: File too large",
                                                 "bytes were written")
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize("sig", [2, 15])
def test_a_signal_leaves_nothing(server, backup, tmp_path, sig):
    source = server("source", config={"rdb-key-save-delay": "2000"})
    fill(source, Sizes(small_keys=5000))
    path = tmp_path / "stopped.rdb"
    b = backup(source, path)

    def writing():
        """the backup is being written"""
        b.alive()
        return b.phase() == "snapshot" and os.listdir(tmp_path) == ["stopped.rdb.tmp"]
    wait_for(writing, 30)
    assert b.terminate(sig=sig) == 1
    assert "stopped by a signal: %s was not written" % path in " ".join(b.said.split())
    assert_nothing_left(tmp_path)


def test_leftovers_of_a_kill_are_taken_over(server, backup, tmp_path):
    source = server("source", config={"rdb-key-save-delay": "2000"})
    fill(source, Sizes(small_keys=5000))
    path = tmp_path / "killed.rdb"
    b = backup(source, path)

    def writing():
        """the backup is being written"""
        return b.phase() == "snapshot"
    wait_for(writing, 30)
    backup(source, path).expect(3, "another process is writing .*killed.rdb.tmp")
    b.proc.kill()
    b.wait()
    assert_nothing_left(tmp_path, "killed.rdb.tmp")
    source.call("CONFIG", "SET", "rdb-key-save-delay", "0")
    backup(source, path).expect(0)
    assert_nothing_left(tmp_path, "killed.rdb")
    check_rdb(path, source)


# -- sources that fail -------------------------------------------------------------------------
@pytest.mark.parametrize("rdb, words", [
    (rdb_file(rdb_string_record("a", "1"), checksum=12345), "the checksum is wrong"),
    (rdb_file(b"\x63\x01kx"), "unknown value type 99"),
    (b"hello, I am no snapshot at all", "this is no RDB"),
])
def test_broken_snapshots(fake, backup, tmp_path, rdb, words):
    backup(fake(rdb=rdb), tmp_path / "broken.rdb").expect(1, "source: .*" + words)
    assert_nothing_left(tmp_path)


def test_a_lost_link(fake, backup, tmp_path):
    rdb = rdb_file(rdb_string_record("a", "1"))
    f = fake(rdb=rdb, announce=len(rdb) + 1000, close_after_rdb=True)
    backup(f, tmp_path / "lost.rdb").expect(1, "1046 bytes announced, but it ends at 46")
    assert_nothing_left(tmp_path)


def test_wrong_passwords_and_hosts(server, backup, tmp_path):
    locked = server("locked", password="hunter2")
    path = tmp_path / "x.rdb"
    b = backup(locked, path).expect(1, "password")
    assert "hunter2" not in b.said
    backup(locked, path, source_uri="redis://127.0.0.1:1").expect(1, "source: 127.0.0.1:1: connection refused")
    r = run("backup", "--source", locked.uri())
    assert r.returncode == 2 and "--output: missing" in r.stderr
    assert_nothing_left(tmp_path)
    backup(locked, path, env={"KEYHAUL_SOURCE_PASSWORD": "hunter2"}).expect(0)


# -- what it says ------------------------------------------------------------------------------
def test_json(server, backup, tmp_path):
    source = server("source", config={"rdb-key-save-delay": "300"})
    fill(source, Sizes(small_keys=5000))
    path = tmp_path / "json.rdb"
    b = backup(source, path, "--format", "json").expect(0)
    events = [json.loads(line) for line in b.stdout.splitlines()]
    assert {e["event"] for e in events} == {"progress", "summary"}
    assert "snapshot" in {e["phase"] for e in events}
    end = events[-1]
    assert end["event"] == "summary" and end["outcome"] == "done" and end["exit_status"] == 0
    assert end["target"] == {"file": str(path)} and end["source"]["uri"] == source.uri()
    assert end["keys"] == count_keys(source)
    assert {d["db"]: d["keys"] for d in end["databases"]} == {
        d["db"]: d["keys"] for d in report(path)["databases"]}
    assert [p["phase"] for p in end["phases"]] == ["snapshot"]


# -- golden dumps: restored, backed up, inspected ---------------------------------------------
@pytest.mark.parametrize("dump", [d for d in DUMPS if d != RELEASE_CANDIDATE])
def test_round_trip(running, restore, backup, tmp_path, dump):
    """What a server holds of a dump comes back with the same checksum of content."""
    into = running("default")
    m, dead = load_manifest(dump)
    gone = dead | {k.at for k in m.keys.values() if cannot_hold(into, dump, k)}
    rdb, path = GOLDEN / "rdb" / (dump + ".rdb"), tmp_path / "again.rdb"
    r = restore(rdb, into, "--on-error", "continue")
    assert r.wait() in (0, 4), r.said
    backup(into, path).expect(0)
    check_rdb(path, into)
    want = {at: k for at, k in lines(rdb).items() if at not in gone}
    got = {at: k for at, k in lines(path).items() if at not in dead}  # not yet expired
    same = ("type", "expire_ms", "elements", "sha256")
    assert {at: [k[x] for x in same] for at, k in got.items()} == {
        at: [k[x] for x in same] for at, k in want.items()}
