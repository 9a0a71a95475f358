# SPDX-License-Identifier: BSD-3-Clause
# `keyhaul inspect` of AOFs: the snapshot as it is, the commands behind it counted, against a count
# of our own; cut files, selections, pipes.
import collections
import os
import re
import subprocess
import time

import pytest

from lib.inspect import lines, report, run
from lib.mover import keyhaul_binary
from lib.resp import encode, wait_for
from lib.server import die_with_parent, peak_rss_mb
from test_restore import AOFS, GOLDEN, unpack

REWRITING = sorted(p.name for p in (GOLDEN / "aof").glob("*-rewriting"))
FRAMING = {"SELECT", "MULTI", "EXEC"}
NOWHERE = {"FLUSHALL", "SWAPDB", "FUNCTION", "PUBLISH", "SPUBLISH", "SCRIPT"}


def aof(*commands):
    return b"".join(c if isinstance(c, bytes) else encode(c.split(" ")) for c in commands)


class Count:
    """Commands of AOF bytes, read by other means than the program's."""

    def __init__(self):
        self.names, self.dbs, self.times = collections.Counter(), collections.Counter(), []
        self.bytes = self.transactions = self.nowhere = 0

    def add(self, data):
        self.bytes += len(data)
        at, db, now = 0, 0, None
        while at < len(data):
            end = data.index(b"\r\n", at)
            head, at = data[at:end], end + 2
            if head[:1] == b"#":
                m = re.fullmatch(rb"#TS:(\d+)", head)
                now = int(m[1]) if m else now
                continue
            self.times += [now] if now else []
            args = []
            for _ in range(int(head[1:])):
                end = data.index(b"\r\n", at)
                n = int(data[at + 1:end])
                args.append(data[end + 2:end + 2 + n])
                at = end + 2 + n + 2
            name = args[0].decode().upper()
            if name == "SELECT":
                db = int(args[1])
            self.transactions += name == "EXEC"
            if name in FRAMING:
                continue
            self.names[name] += 1
            if name in NOWHERE:
                self.nowhere += 1
            else:
                self.dbs[db] += 1
        return self

    def expect(self, c):
        assert {n["name"]: n["commands"] for n in c["names"]} == self.names
        assert {d["db"]: d["commands"] for d in c["databases"]} == self.dbs
        assert c["commands"] == sum(self.names.values())
        assert c["bytes"] == sum(n["bytes"] for n in c["names"]) <= self.bytes
        assert (c["file_bytes"], c["transactions"], c["without_database"], c["left_out"]) == \
            (self.bytes, self.transactions, self.nowhere, 0)
        want = (min(self.times) * 1000, max(self.times) * 1000) if self.times else (None, None)
        assert (c["first_ms"], c["last_ms"]) == want
        assert c["cut_at"] is None


def files_of(path):
    """The files a server would read, in order."""
    if path.is_file():
        return [path]
    rows = [line.split() for line in max(path.glob("*.manifest")).read_text().splitlines()]
    parts = [(r[5] != "b", int(r[3]), r[1]) for r in rows if r[5] != "h"]
    return [path / name for _, _, name in sorted(parts)]


@pytest.mark.parametrize("name", AOFS + REWRITING)
def test_golden(tmp_path, name):
    if name in REWRITING:  # it lacks what its server had written before
        unpack(name.replace("rewriting", "rewritten"), tmp_path)
    path = unpack(name, tmp_path)
    files = files_of(path)
    r = report(path)
    assert r["source"] == {"file": str(path), "files": len(files)}
    want = Count()
    for f in files:
        data = f.read_bytes()
        if data[:6] not in (b"VALKEY", data[:0]) and data[:5] != b"REDIS":
            want.add(data)
            continue
        alone = tmp_path / "alone.rdb"
        alone.write_bytes(data[:r["rdb_bytes"]])
        only = report(alone)
        same = ("keys", "databases", "encodings", "rdb_version", "functions", "expires")
        assert [r[x] for x in same] == [only[x] for x in same]
        assert lines(path) == lines(alone)
        want.add(data[r["rdb_bytes"]:])
    if want.bytes == 0:
        assert r["commands"] is None and not r["commands_follow"]
        return
    want.expect(r["commands"])
    assert "COUNTED, NOT RUN" in run("inspect", path).stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data directory as a server leaves it: 7 keys in the base, commands in the increment."""
    from lib.server import Server
    s = Server(name="saver", config={"appendonly": "yes", "aof-timestamp-enabled": "yes"}).start()
    with s.connect() as c:
        c.feed([("SET", "user:%d" % i, i) for i in range(5)] + [("SET", "cart:1", "x")])
        c.call("SELECT", 3)
        c.call("HSET", "user:h", "f", "v")
        c.call("BGREWRITEAOF")

        def done():
            info = c.info("persistence")
            return info["aof_rewrite_in_progress"] == info["aof_rewrite_scheduled"] == "0"
        wait_for(done)
        time.sleep(1.1)  # a server annotates once a second
        c.call("SELECT", 0)
        c.pipeline([("MULTI",), ("INCR", "user:0"), ("SET", "cart:2", "y"), ("EXEC",),
                    ("DEL", "cart:1"), ("RENAME", "user:1", "cart:3"), ("SELECT", 3),
                    ("HSET", "user:h", "g", "w"), ("FLUSHALL",), ("SET", "user:9", "z")])
    into = tmp_path_factory.mktemp("aof") / "data"
    subprocess.run(["cp", "-r", s.dir, into], check=True)
    s.stop()
    return into


def test_all_ways_to_name_it(folder):
    """The data directory, the folder in it, the manifest: one and the same."""
    below = folder / "appendonlydir"
    want = None
    for path in (folder, below, max(below.glob("*.manifest"))):
        r = report(path)
        assert r["source"] == {"file": str(path), "files": 2} and r["keys"] == 7
        del r["source"]
        assert want in (None, r)
        want = r
    assert {n["name"]: n["commands"] for n in r["commands"]["names"]} == {
        "INCR": 1, "SET": 2, "DEL": 1, "RENAME": 1, "HSET": 1, "FLUSHALL": 1}
    assert r["commands"]["transactions"] == 1
    assert abs(r["commands"]["first_ms"] / 1000 - time.time()) < 600


def test_the_report_says_what_it_is_not(folder):
    r = run("inspect", folder, "--for", "redis-6.2")
    said = " ".join(r.stdout.split())
    assert r.returncode == 0 and r.stderr == ""
    assert "behind the snapshot, COUNTED, NOT RUN: the keys told here are those of the snapshot " \
        "alone" in said
    assert "what the commands make is not told" in said
    assert all(len(line) <= 80 for line in r.stdout.splitlines())


def test_lines_are_of_the_snapshot_alone_and_it_is_said(folder):
    r = run("inspect", folder, "--output", "jsonl")
    assert r.returncode == 0 and len(r.stdout.splitlines()) == 7
    assert "7 commands stand behind the snapshot, and were not run" in r.stderr
    incr = max((folder / "appendonlydir").glob("*.incr.aof"))
    r = run("inspect", incr, "--output", "jsonl")
    assert r.returncode == 3 and r.stdout == ""
    assert "it holds commands only" in r.stderr and "keyhaul restore" in r.stderr


def test_selections(folder):
    c = report(folder, "--db", "3")["commands"]
    assert {n["name"]: n["commands"] for n in c["names"]} == {"HSET": 1, "SET": 1, "FLUSHALL": 1}
    assert c["left_out"] == 4
    r = report(folder, "--keys", "cart:*")
    assert (r["keys"], r["left_out"]) == (1, 6)
    assert {n["name"]: n["commands"] for n in r["commands"]["names"]} == {
        "SET": 1, "DEL": 1, "RENAME": 1, "FLUSHALL": 1}
    assert r["commands"]["left_out"] == 3


def test_a_pipe(tmp_path):
    rdb = (GOLDEN / "rdb" / "redis-7.0.15.rdb").read_bytes()
    data = aof("SET a 1", "SELECT 2", "SET b 2")
    for stdin in (rdb + data, data):
        r = run("inspect", "-", "--output", "human", stdin=stdin, text=False)
        assert r.returncode == 0 and b"COUNTED, NOT RUN" in r.stdout
        assert b"standard input" in r.stdout


@pytest.mark.parametrize("tail, at", [(b"*3\r\n$3\r\nSET", 0), (b"*", 0),
                                      (aof("MULTI", "SET b 1"), 0), (b"#TS:1700", None)])
def test_a_cut(tmp_path, tail, at):
    data = aof("SET a 1", "INCR n")
    path = tmp_path / "cut.aof"
    path.write_bytes(data + tail)
    r = report(path)
    assert r["commands"]["cut_at"] == (None if at is None else len(data))
    assert {n["name"]: n["commands"] for n in r["commands"]["names"]} == {"SET": 1, "INCR": 1}
    said = " ".join(run("inspect", path).stdout.split())
    assert ("at byte %d of the last file is not whole" % len(data) in said) == (at is not None)


def test_damage_is_an_error(tmp_path):
    """Within a file that is not the last, and where no command begins: what came before is shown."""
    (tmp_path / "b.aof").write_bytes(aof("SET a 1")[:-3])
    (tmp_path / "i.aof").write_bytes(aof("SET b 1"))
    (tmp_path / "x.manifest").write_text("file b.aof seq 1 type b\nfile i.aof seq 1 type i\n")
    r = run("inspect", tmp_path)
    assert r.returncode == 1 and re.search(r"b\.aof: the command .* not the last file", r.stderr)
    rdb = (GOLDEN / "rdb" / "redis-7.0.15.rdb").read_bytes()
    (tmp_path / "i.aof").write_bytes(rdb)
    (tmp_path / "b.aof").write_bytes(aof("SET a 1"))
    r = run("inspect", tmp_path)
    assert r.returncode == 1 and "i.aof: a snapshot behind other data" in r.stderr
    path = tmp_path / "odd.aof"
    path.write_bytes(rdb + aof("SET b 1") + b"\0\0")
    r = run("inspect", path)
    assert r.returncode == 1 and r.stdout.startswith("ONLY UP TO WHERE IT FAILED")
    assert "no command at byte %d: it begins with byte 0x00" % (len(rdb) + 27) in r.stderr
    os.remove(tmp_path / "i.aof")
    r = run("inspect", tmp_path)
    assert r.returncode == 1 and re.search(r"cannot open .*i\.aof: No such file", r.stderr)


def test_memory(tmp_path):
    """A command of 200 MB, and a million small ones."""
    path = tmp_path / "large.aof"
    with open(path, "wb") as f:
        f.write(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$200000000\r\n")
        for _ in range(200):
            f.write(bytes(1_000_000))
        f.write(b"\r\n")
        for _ in range(100):
            f.write(aof("SET key:123 value") * 10_000)
    k = subprocess.Popen([keyhaul_binary(), "inspect", "-", "--output", "json"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=die_with_parent)
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            k.stdin.write(block)
    peak = peak_rss_mb(k.pid)
    out, _ = k.communicate(timeout=60)
    assert k.returncode == 0 and b'"name":"SET","commands":1000001' in out
    assert peak <= 64
