# SPDX-License-Identifier: BSD-3-Clause
# `keyhaul restore` where files are broken, cut, missing or pipes, and what its options do.
import json
import os
import signal
import struct
import subprocess
import time

import pytest

from lib.resp import encode, wait_for
from lib.server import die_with_parent

NOBODY = 65534


def aof(*commands):
    """Bytes of an AOF: commands as text, bytes as they are."""
    return b"".join(c if isinstance(c, bytes) else encode(c.split(" ")) for c in commands)


def rdb_string(s):
    assert len(s) < 64
    return bytes([len(s)]) + s


def rdb(*keys, aux=()):
    """An RDB without a checksum of (key, value, deadline or None)."""
    out = b"REDIS0009"
    for name, value in aux:
        out += b"\xfa" + rdb_string(name) + rdb_string(value)
    out += b"\xfe\x00"
    for name, value, at in keys:
        out += b"" if at is None else b"\xfc" + struct.pack("<q", at)
        out += b"\x00" + rdb_string(name) + rdb_string(value)
    return out + b"\xff" + bytes(8)


AS_AOF = [(b"aof-preamble", b"1")]
PAST = 1_600_000_000_000


@pytest.fixture
def target(running):
    return running()


@pytest.fixture
def saved(server):
    """saved(*commands): what a server writes by SAVE."""
    def make(*commands, config=None):
        s = server("saver", config=config)
        with s.connect() as c:
            c.feed(commands)
            c.call("SAVE")
        with open(os.path.join(s.dir, "dump.rdb"), "rb") as f:
            return f.read()
    return make


def put(folder, **files):
    """Files of an AOF folder: names with _ for ."""
    for name, data in files.items():
        (folder / name.replace("_", ".")).write_bytes(data)
    return folder


def manifest(*lines):
    return "".join("file %s seq %d type %s\n" % x for x in lines).encode()


def keys(server, db=0):
    with server.connect(db) as c:
        return {k: c.call("GET", k) for k in c.call("KEYS", "*")}


# -- AOFs of several files ---------------------------------------------------------------------
BASE_INCR = manifest(("b.aof", 1, "b"), ("i.aof", 1, "i"))


@pytest.mark.parametrize("base", [
    aof("SET a 1", "SET b 1")[:-3], aof("SET a 1", "MULTI", "SET b 1"),
    aof("SET a 1", b"*")], ids=["command", "transaction", "one byte"])
def test_cut_file_that_is_not_the_last(target, restore, tmp_path, base):
    put(tmp_path, b_aof=base, i_aof=aof("SET c 1"), x_manifest=BASE_INCR)
    restore(tmp_path, target).expect(1, r"b\.aof: the command or transaction at byte %d is not "
                                     "whole" % len(aof("SET a 1")), "not the last file")
    assert keys(target) == {b"a": b"1"}


def test_second_file_is_named_with_its_own_bytes(target, restore, tmp_path):
    put(tmp_path, b_aof=aof("SET a 1"), i_aof=aof("SET c 1") + b"garbage", x_manifest=BASE_INCR)
    restore(tmp_path, target).expect(1, r"i\.aof: no command at byte %d" % len(aof("SET c 1")))
    assert keys(target) == {b"a": b"1", b"c": b"1"}


def test_comment_that_is_cut_ends_any_file(target, restore, tmp_path):
    put(tmp_path, b_aof=aof("SET a 1") + b"#TS:16", i_aof=aof("SET c 1"), x_manifest=BASE_INCR)
    k = restore(tmp_path, target).expect(0)
    assert "not whole" not in k.said
    assert keys(target) == {b"a": b"1", b"c": b"1"}


BROKEN_MANIFESTS = {
    "missing part": (BASE_INCR, 1, r"cannot open .*i\.aof: No such file"),
    "two bases": (manifest(("b.aof", 1, "b"), ("b.aof", 2, "b")), 1, "more than one base"),
    "order": (manifest(("b.aof", 2, "i"), ("b.aof", 1, "i")), 1, "not in order"),
    "path": (manifest(("../b.aof", 1, "b")), 1, "line 1 is not to be understood"),
    "absolute": (manifest(("/etc/passwd", 1, "b")), 1, "line 1 is not to be understood"),
    "words": (b"file b.aof\n", 1, "line 1 is not to be understood"),
    "binary": (bytes(range(256)) * 40, 1, "is not to be understood"),
    "nothing": (b"", 1, "names no files"),
    "only history": (manifest(("b.aof", 1, "h")), 1, "names no files"),
    "large": (b"#" * (1 << 20), 1, "too large"),
    "itself a folder": (manifest((".", 1, "b")), 1, "line 1 is not to be understood"),
    "a folder": (manifest(("folder", 1, "b")), 1, "folder is a directory"),
}


@pytest.mark.parametrize("what", BROKEN_MANIFESTS)
def test_broken_manifest(target, restore, tmp_path, what):
    text, status, words = BROKEN_MANIFESTS[what]
    put(tmp_path, b_aof=aof("SET a 1"), x_manifest=text)
    (tmp_path / "folder").mkdir()
    for path in (tmp_path, tmp_path / "x.manifest"):
        restore(path, target).expect(status, words)
    assert keys(target) == {}


def test_folders(target, restore, tmp_path):
    """A data directory, its appendonlydir, the manifest; an old appendonly.aof beside."""
    put(tmp_path, appendonly_aof=aof("SET old 1"))
    restore(tmp_path, target).expect(0)
    assert keys(target) == {b"old": b"1"}
    below = tmp_path / "appendonlydir"
    below.mkdir()
    put(below, b_aof=aof("SET a 1"), i_aof=b"", x_manifest=BASE_INCR)
    (below / "temp-x.manifest").write_bytes(b"not looked at")
    for path in (tmp_path, below, below / "x.manifest"):
        target.call("FLUSHALL")
        restore(path, target).expect(0)
        assert keys(target) == {b"a": b"1"}
    put(below, y_manifest=BASE_INCR)
    restore(below, target).expect(2, "several manifests")


def test_manifest_of_the_working_directory(target, tmp_path, restore):
    put(tmp_path, b_aof=aof("SET a 1"), i_aof=b"", x_manifest=BASE_INCR)

    def there():
        os.chdir(tmp_path)
    restore("x.manifest", target, preexec=there).expect(0)
    assert keys(target) == {b"a": b"1"}


def test_snapshot_behind_other_data(target, restore, tmp_path):
    whole = rdb((b"k", b"v", None))
    put(tmp_path, b_aof=whole, i_aof=whole, x_manifest=BASE_INCR)
    restore(tmp_path, target).expect(1, r"i\.aof: a snapshot behind other data")
    assert keys(target) == {b"k": b"v"}


# -- nothing, nobody's, no file ----------------------------------------------------------------
def test_empty_things(target, restore, tmp_path):
    put(tmp_path, empty_aof=b"")
    restore(tmp_path / "empty.aof", target).expect(1, "is empty: there is nothing to read")
    (tmp_path / "folder").mkdir()
    restore(tmp_path / "folder", target).expect(2, "directory without a manifest")
    restore("/dev/null", target).expect(1, "nothing came")
    put(tmp_path / "folder", b_aof=b"", i_aof=b"", x_manifest=BASE_INCR)
    restore(tmp_path / "folder", target).expect(1, "is empty")


def test_names_that_are_none(target, restore, tmp_path):
    restore(tmp_path / "nothing.rdb", target).expect(2, "cannot open .*nothing.rdb: No such file")
    restore(tmp_path / "x.manifest", target).expect(2, "cannot open .*x.manifest: No such file")
    assert keys(target) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_without_rights(target, restore, tmp_path):
    os.chmod(tmp_path, 0o755)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    put(closed, x_manifest=BASE_INCR)
    (tmp_path / "closed.rdb").write_bytes(rdb((b"k", b"v", None)))
    os.chmod(tmp_path / "closed.rdb", 0)

    def as_nobody():
        die_with_parent()
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    for path in (closed, tmp_path / "closed.rdb"):
        try:
            k = restore(path, target, preexec=as_nobody, metrics=False)
        except PermissionError:
            pytest.skip("the program is not to be run by others")
        k.expect(1, "Permission denied")


# -- standard input and pipes ------------------------------------------------------------------
CONTENTS = {
    "rdb": rdb((b"k", b"v", None)), "aof": aof("SET k v"),
    "both": rdb((b"j", b"w", None), aux=AS_AOF) + aof("SET k v", "DEL j"),
}


@pytest.mark.parametrize("what", CONTENTS)
def test_standard_input(target, restore, tmp_path, what):
    path = tmp_path / "file"
    path.write_bytes(CONTENTS[what])
    with open(path, "rb") as f:
        restore("-", target, stdin=f).expect(0, "standard input")
    assert keys(target) == {b"k": b"v"}
    target.call("FLUSHALL")
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
        restore("-", target, stdin=cat.stdout).expect(0)
    assert keys(target) == {b"k": b"v"}


def test_named_pipe(target, restore, tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with subprocess.Popen(["sh", "-c", 'cat "$1" >"$2"', "sh", put(tmp_path, file_rdb=CONTENTS[
            "rdb"]) / "file.rdb", path]):
        restore(path, target).expect(0)
    assert keys(target) == {b"k": b"v"}


def test_standard_input_without_anything(target, restore):
    restore("-", target).expect(1, "nothing came: there is nothing to restore")


class Slow:
    """Standard input that comes when the test says so."""

    def __init__(self, restore, target, *options, **kw):
        read_end, self.write_end = os.pipe()
        self.k = restore("-", target, *options, stdin=read_end, **kw)
        os.close(read_end)  # so that a write notices when nobody reads

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.end()

    def send(self, data):
        while data:
            data = data[os.write(self.write_end, data):]

    def end(self):
        if self.write_end is not None:
            os.close(self.write_end)
        self.write_end = None
        return self.k


def test_one_byte_at_a_time(target, restore):
    data = rdb((b"j", b"w", None), aux=AS_AOF) + aof("SET k v", "MULTI", "INCR n", "EXEC", "DEL j")
    with Slow(restore, target) as pipe:
        for i in range(len(data)):
            pipe.send(data[i:i + 1])
            time.sleep(0.001)
        pipe.end().expect(0)
    assert keys(target) == {b"k": b"v", b"n": b"1"}


MANY = [("SET", "key:%d" % i, "v" * 50) for i in range(2000)]


@pytest.mark.parametrize("what", ["rdb", "aof"])
def test_stopped_half_way(target, restore, saved, what):
    data = saved(*MANY) if what == "rdb" else b"".join(map(encode, MANY))
    with Slow(restore, target) as pipe:
        pipe.send(data[:len(data) // 2])
        wait_for(lambda: target.call("DBSIZE") > 500)
        time.sleep(0.1)
        k = pipe.k
        assert k.terminate() == 0
    assert "the target holds only part of the data" in " ".join(k.stdout.split())
    n = target.call("DBSIZE")
    assert 500 < n < 2000
    m = k.metrics()
    assert m["outcome"] == "stopped" and m["keys_written"] + m["commands_written"] == n


def test_stopped_before_anything(target, restore):
    with Slow(restore, target) as pipe:
        k = pipe.k
        k.wait_metric(lambda m: m["phase"] == "restore")
        assert k.terminate() == 0
    assert "before anything was written" in k.stdout


@pytest.mark.parametrize("what", ["rdb", "aof"])
def test_target_dies(server, restore, saved, what):
    target = server("target")
    data = saved(*MANY) if what == "rdb" else b"".join(map(encode, MANY))
    with Slow(restore, target) as pipe:
        pipe.send(data[:len(data) // 2])
        wait_for(lambda: target.call("DBSIZE") > 500)
        target.kill()
        try:
            pipe.send(data[len(data) // 2:])
        except BrokenPipeError:
            pass  # it has noticed already
        pipe.end().expect(1, "target: ")


# -- broken data -------------------------------------------------------------------------------
def test_rdb_cut_anywhere(target, restore, saved, tmp_path):
    data = saved(("SET", "a", "1"), ("RPUSH", "l", "x", "y"), ("HSET", "h", "f", "v"))
    path = tmp_path / "dump.rdb"
    for n in [*range(1, len(data), 7), len(data) - 1]:
        path.write_bytes(data[:n])
        k = restore(path, target, metrics=False).expect(1)
        if n >= 5:  # else it is not to be told that it is one
            assert "dump.rdb: cut off after %d bytes: " % n in k.stderr
        target.call("FLUSHALL")


def test_what_came_before_a_cut_is_there_and_counted(target, restore, saved, tmp_path):
    data = saved(*MANY)
    path = tmp_path / "dump.rdb"
    path.write_bytes(data[:len(data) * 3 // 4])
    k = restore(path, target).expect(1, "cut off after")
    n = target.call("DBSIZE")
    assert 1000 < n < 2000 and k.metrics()["keys_written"] == n


def test_rdb_with_a_wrong_checksum(target, restore, saved, tmp_path):
    data = saved(("SET", "a", "1"))
    path = tmp_path / "dump.rdb"
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    restore(path, target).expect(1, "dump.rdb: .*checksum")


def test_rdb_with_something_behind_it(target, restore, saved, tmp_path):
    data = saved(("SET", "a", "1"))
    path = tmp_path / "dump.rdb"
    path.write_bytes(data + b"\n")
    restore(path, target).expect(1, "dump.rdb: no command at byte %d" % len(data))
    assert keys(target) == {b"a": b"1"}


def test_garbage_in_the_middle(target, restore, tmp_path):
    before = aof("SET a 1", "RPUSH l x")
    path = tmp_path / "x.aof"
    path.write_bytes(before + b"\x00\x01garbage" + aof("SET b 1"))
    k = restore(path, target).expect(1, r"x\.aof: no command at byte %d: .*0x00" % len(before))
    assert target.call("DBSIZE") == 2 and target.call("EXISTS", "b") == 0
    assert k.metrics()["commands_written"] == 2 and k.metrics()["outcome"] == "failed"


def test_every_byte_of_the_last_transaction(target, restore):
    """The program as a whole; tests/unit/engine/test_replay_file.c cuts at the rest."""
    start, end = aof("SET a 1"), aof("MULTI", "SET b 1", "EXEC")
    for n in range(0, len(end), 4):
        with Slow(restore, target, metrics=False) as pipe:
            pipe.send(start + end[:n])
            k = pipe.end().expect(0)
        assert ("byte %d, its last, is not whole" % len(start) in k.stderr) == (n > 0)
        assert keys(target) == {b"a": b"1"}
        target.call("FLUSHALL")


# -- functions ---------------------------------------------------------------------------------
LIBRARY = ("#!lua name=mylib\nredis.register_function('%s', "
           "function(keys) return redis.call('INCR', keys[1]) end)")


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_functions_of_an_aof_come_again(server, target, restore, preamble):
    """A library in the base and one in the increment, restored twice: `overwrite` replaces them."""
    s = server("saver", config={"appendonly": "yes", "aof-use-rdb-preamble": preamble})
    s.call("FUNCTION", "LOAD", (LIBRARY % "up").replace("mylib", "base"))
    s.call("BGREWRITEAOF")
    wait_for(lambda: b"aof_rewrite_in_progress:0" in s.call("INFO", "persistence")
             and b"aof_rewrite_scheduled:0" in s.call("INFO", "persistence"))
    s.call("FUNCTION", "LOAD", LIBRARY % "later")
    s.call("FCALL", "later", 1, "n")
    want = s.call("FUNCTION", "LIST", "WITHCODE")
    for _ in range(2):
        target.call("DEL", "n")
        k = restore(s.dir, target, "--on-conflict", "overwrite").expect(0)
        assert sorted(target.call("FUNCTION", "LIST", "WITHCODE")) == sorted(want)
        assert k.metrics()["errors"] == 0 and target.call("GET", "n") == b"1"
    target.call("FLUSHALL")
    restore(s.dir, target).expect(3 if preamble == "yes" else 1, "Library 'base' already exists",
                                  "--on-conflict overwrite")


# -- times -------------------------------------------------------------------------------------
def test_relative_times(target, restore, tmp_path):
    """SET ... EX and RESTORE with a time to live, as servers up to 6.2 write them."""
    path, at = tmp_path / "x.aof", int(time.time()) - 1000
    path.write_bytes(aof("SET a v EX 5000", "SET b v", "EXPIRE b 6000", "SET gone v EX 10"))
    os.utime(path, (at, at))
    k = restore(path, target).expect(0)
    assert target.call("PEXPIRETIME", "a") == (at + 5000) * 1000
    assert target.call("PEXPIRETIME", "b") == (at + 6000) * 1000
    assert target.call("EXISTS", "gone") == 0
    assert k.stderr.count("they are counted from") == 1
    target.call("FLUSHALL")
    path.write_bytes(b"#TS:%d\r\n" % (at - 500) + aof("SET a v EX 5000"))
    k = restore(path, target).expect(0)
    assert target.call("PEXPIRETIME", "a") == (at - 500 + 5000) * 1000
    assert "counted from" not in k.stderr


def test_expired_keys_that_are_renewed(target, restore, tmp_path):
    """Servers expire nothing while they load an AOF: what comes later may need it."""
    path = tmp_path / "x.aof"
    later = int(time.time() * 1000) + 3_600_000
    path.write_bytes(
        rdb((b"head", b"1", PAST), (b"head gone", b"1", PAST), aux=AS_AOF) +
        aof("INCR head", "PERSIST head", "SET k 5 PXAT %d" % PAST, "INCR k",
            "PEXPIREAT k %d" % later, "SET gone 1", "PEXPIREAT gone %d" % PAST,
            "SET moved 1 PXAT %d" % PAST, "RENAME moved here", "PERSIST here"))
    restore(path, target).expect(0)
    assert keys(target) == {b"head": b"2", b"k": b"6", b"here": b"1"}
    assert target.call("PEXPIRETIME", "k") == later
    assert target.call("PEXPIRETIME", "head") == target.call("PEXPIRETIME", "here") == -1


def test_expired_keys_that_are_renewed_in_commands_alone(target, restore, tmp_path):
    path = tmp_path / "x.aof"
    path.write_bytes(aof("SET k 1 PXAT %d" % PAST, "PERSIST k", "SET gone 1 PXAT %d" % PAST))
    restore(path, target).expect(0)
    assert keys(target) == {b"k": b"1"}


def test_renewed_in_a_later_file(target, restore, tmp_path):
    put(tmp_path, b_aof=rdb((b"k", b"1", PAST)), i_aof=aof("PERSIST k"), x_manifest=BASE_INCR)
    restore(tmp_path, target).expect(0)
    assert keys(target) == {b"k": b"1"}


def test_deadlines_are_right_after_an_error(target, restore, tmp_path):
    path, at = tmp_path / "x.aof", int(time.time() * 1000) + 60_000
    path.write_bytes(aof("SET gone 1 PXAT %d" % PAST, "SET k v PXAT %d" % at) + b"garbage")
    k = restore(path, target).expect(1, "no command at byte")
    assert keys(target) == {b"k": b"v"} and target.call("PEXPIRETIME", "k") == at
    assert "held back" not in k.stderr


def test_expired_keys_of_a_dump(target, restore, tmp_path):
    path = tmp_path / "dump.rdb"
    path.write_bytes(rdb((b"gone", b"1", PAST), (b"k", b"v", None)))
    restore(path, target).expect(0)
    assert keys(target) == {b"k": b"v"}


# -- options -----------------------------------------------------------------------------------
def test_conflicts_of_a_dump(target, restore, tmp_path):
    path = tmp_path / "dump.rdb"
    path.write_bytes(rdb((b"a", b"new", None), (b"b", b"new", None)))
    target.call("SET", "a", "old")
    target.call("SET", "other", "old")
    k = restore(path, target).expect(3, "holds 2 keys in database 0")
    assert k.metrics()["bytes_written"] == 0
    restore(path, target, "--on-conflict", "skip").expect(0, "1 keys were on the target already")
    assert keys(target) == {b"a": b"old", b"b": b"new", b"other": b"old"}
    restore(path, target, "--on-conflict", "overwrite").expect(0)
    assert keys(target) == {b"a": b"new", b"b": b"new", b"other": b"old"}


def test_conflicts_of_an_aof(target, restore, tmp_path):
    path = tmp_path / "x.aof"
    path.write_bytes(aof("SET a new"))
    target.call("SET", "a", "old")
    restore(path, target).expect(3, "holds 1 keys in database 0")
    restore(path, target, "--on-conflict", "skip").expect(3, "--on-conflict skip is for snapshots")
    assert keys(target) == {b"a": b"old"}
    k = restore(path, target, "--on-conflict", "overwrite").expect(0)
    assert "may end as neither side had them" in k.stderr
    target.call("FLUSHALL")
    k = restore(path, target, "--on-conflict", "overwrite").expect(0)
    assert "may end as neither side had them" not in k.stderr
    assert keys(target) == {b"a": b"new"}


def test_skip_is_refused_before_the_snapshot_of_an_aof(target, restore, tmp_path):
    put(tmp_path, b_aof=rdb((b"k", b"v", None)), i_aof=aof("SET a 1"), x_manifest=BASE_INCR)
    restore(tmp_path, target, "--on-conflict", "skip").expect(3, "is for snapshots")
    assert keys(target) == {}
    put(tmp_path, i_aof=b"")
    restore(tmp_path, target, "--on-conflict", "skip").expect(0)
    assert keys(target) == {b"k": b"v"}


def test_databases(server, target, restore, saved, tmp_path):
    commands = [("SELECT", 0), ("SET", "k", "0"), ("SELECT", 3), ("SET", "k", "3"),
                ("SELECT", 9), ("SET", "k", "9")]
    files = {"dump.rdb": saved(*commands), "x.aof": b"".join(map(encode, commands))}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        target.call("FLUSHALL")
        target.call("SET", "k", "there", db=9)  # not one of those chosen
        k = restore(tmp_path / name, target, "--db", "0,3", "--db-map", "3:5").expect(0)
        assert {d: keys(target, d).get(b"k") for d in (0, 3, 5, 9)} == {
            0: b"0", 3: None, 5: b"3", 9: b"there"}
        assert "3 to 5" in k.stdout
        target.call("FLUSHALL")
        restore(tmp_path / name, target, "--db", "9", target_uri=target.uri() + "/1").expect(0)
        assert [keys(target, d).get(b"k") for d in (0, 1, 3, 9)] == [None, b"9", None, None]
    small = server("small", config={"databases": "4"})
    for name in files:
        restore(tmp_path / name, small, "--on-conflict", "overwrite").expect(1, "database")


def test_flushall_reaches_databases_of_the_snapshot(server, restore, tmp_path):
    small = server("many", config={"databases": "40"})
    head = rdb((b"k", b"v", None), aux=AS_AOF).replace(b"\xfe\x00", b"\xfe\x21")
    (tmp_path / "x.aof").write_bytes(head + aof("FLUSHALL", "SET a 1"))
    restore(tmp_path / "x.aof", small).expect(0)
    assert keys(small) == {b"a": b"1"} and keys(small, 33) == {}


def test_refused_commands(target, restore, tmp_path):
    path = tmp_path / "x.aof"
    path.write_bytes(aof("SET a 1", "RPUSH a x", "SET c 1"))
    restore(path, target).expect(1, 'refused RPUSH .*"a"')
    target.call("FLUSHALL")
    path.write_bytes(aof("SET a 1", "RPUSH a x", "NOSUCH b", "SET c 1"))
    restore(path, target, "--on-error", "continue").expect(4, 'refused RPUSH .*"a"', "NOSUCH")
    assert keys(target) == {b"a": b"1", b"c": b"1"}


def test_what_is_said_as_json(target, restore, saved, tmp_path):
    path = tmp_path / "x.aof"
    path.write_bytes(saved(*MANY) + aof("SET a 1", "SELECT 2", "SET b 1"))
    k = restore(path, target, "--output", "json").expect(0)
    lines = [json.loads(line) for line in k.stdout.splitlines()]
    last = lines[-1]
    assert last["event"] == "summary" and last["outcome"] == "done"
    assert last["source"] == {"file": str(path)}
    assert [(p["phase"], p["keys"], p["commands"], p["bytes"]) for p in last["phases"]] == [
        ("restore", 2000, 2, path.stat().st_size)]
    m = k.metrics()
    assert m["source"] == {"file": str(path)}
    assert m["snapshot_bytes_total"] == m["snapshot_bytes_decoded"] == path.stat().st_size
    target.call("FLUSHALL")
    k = restore("-", target, "--output", "json").expect(1)
    assert json.loads(k.stdout.splitlines()[0])["event"] == "error"


BUSY = ("local s = redis.call('TIME')[1] + 0 "
        "while redis.call('TIME')[1] - s < 3 do end")


def test_progress_by_bytes(target, restore, tmp_path):
    """A file whose size is known, and in it a command that takes some seconds."""
    half = [("SET", "key:%d" % i, "v" * 40_000) for i in range(500)]
    (tmp_path / "x.aof").write_bytes(b"".join(
        map(encode, [*half, ("EVAL", BUSY, 0), *half])))
    k = restore(tmp_path / "x.aof", target, "--output", "json").expect(0)
    seen = [p for p in map(json.loads, k.stdout.splitlines()) if p["event"] == "progress"]
    seen = [p for p in seen if p["phase"] == "restore"]
    assert seen
    for p in seen:
        assert 40 < p["percent"] < 60 and p["percent_estimated"] is False and p["lag_bytes"] == 0


# -- a large file ------------------------------------------------------------------------------
@pytest.mark.heavy
def test_one_gigabyte(server, restore, tmp_path):
    source = server("source", config={"rdbcompression": "no"})
    source.call("DEBUG", "POPULATE", 1_000_000, "key", 1000)
    with source.connect(timeout=300) as c:
        c.feed(("HSET", "large", "field:%d" % i, "v" * 100) for i in range(300_000))
        c.call("SAVE")
    path = os.path.join(source.dir, "dump.rdb")
    assert os.path.getsize(path) > 1_000_000_000
    target = server("target")
    k = restore(path, target)
    k.expect(0, timeout=300)
    assert k.peak_rss_mb() <= 64
    with source.connect(timeout=300) as s, target.connect(timeout=300) as t:
        assert s.call("DEBUG", "DIGEST") == t.call("DEBUG", "DIGEST")
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
        target.call("FLUSHALL")
        k = restore("-", target, stdin=cat.stdout)
        k.expect(0, timeout=300)
    assert k.peak_rss_mb() <= 64 and target.call("DBSIZE") == 1_000_001
