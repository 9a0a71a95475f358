# SPDX-License-Identifier: BSD-3-Clause
# Choosing keys by patterns: `backup`, `restore` and `inspect` take exactly those that the server's
# own KEYS names; of an AOF's commands none can be chosen.
import random
import re

import pytest

from lib.compare import assert_equal
from lib.dataset import Sizes, fill
from lib.inspect import lines, report, run
from lib.resp import encode
from lib.server import find_servers
from test_backup import backup, check_rdb, loaded  # noqa: F401

FILL = Sizes(small_keys=300)


def selected(server, keep=("*",), skip=(), dbs=range(16)):
    """{(db, name)} by KEYS."""
    out = set()
    for db in dbs:
        with server.connect(db) as c:
            taken = {k for p in keep for k in c.call("KEYS", p)}
            out |= {(db, k) for k in taken - {k for p in skip for k in c.call("KEYS", p)}}
    return out


def all_keys(server):
    return selected(server)


def options(keep, skip):
    return [w for p in keep for w in ("--keys", p)] + [w for p in skip for w in ("--skip-keys", p)]


# -- the patterns ------------------------------------------------------------------------------
def odd_names():
    """All short names over an alphabet that means something in patterns, and some binary ones."""
    letters = "ab-]^[\\*?,"
    names = [a + b for a in letters for b in letters + "c"] + list(letters)
    return [n.encode() for n in names] + [b"\x00", b"\xff\xfe", b"a\nb", b"abcabc", b"aXbYc"]


def odd_patterns(rng, n):
    """Patterns that a server and the shell's words can both hold."""
    parts = ["*", "?", "a", "b", "c", "[ab]", "[^a]", "[a-c]", "[c-a]", "\\*", "\\?", "\\[", "[",
             "]", "^", "-", "[]", "[^]", "[a-", "[\\]]", "\\\\", "[\\", "[a\\-c]", "[-a]"]
    return ["".join(rng.choice(parts) for _ in range(rng.randrange(1, 5))) for _ in range(n)]


def test_patterns_mean_what_they_mean_to_the_server(source, tmp_path):
    with source.connect() as c:
        c.feed([("SET", n, "1") for n in odd_names()])
        c.call("SAVE")
    path = source.dir + "/dump.rdb"
    rng, tried = random.Random(5), 0
    for pattern in odd_patterns(rng, 250):
        if re.search(r"(?<!\\)(\\\\)*\\$", pattern):
            continue  # ends in a backslash: refused, and told
        got = {name for _, name in lines(path, "--keys=" + pattern.replace(",", "\\,"))}
        assert got == set(source.call("KEYS", pattern)), pattern
        tried += 1
    assert tried > 150
    assert {n for _, n in lines(path, "--keys", "?\\,")} == {
        a for a in odd_names() if len(a) == 2 and a[1:] == b","}


# -- backup ------------------------------------------------------------------------------------
CHOICES = [
    (["str*"], []), ([], ["str*", "*:[0-9]*"]), (["*hash*", "list:?:*"], ["*n:*"]),
    (["nothing like this"], []),
]


@pytest.mark.parametrize("keep, skip", CHOICES)
def test_a_backup_of_some_keys(server, backup, tmp_path, keep, skip):  # noqa: F811
    """A server of the same version starts on it, and has exactly these."""
    source = server("source")
    fill(source, FILL)
    want = selected(source, keep or ("*",), skip)
    assert len(want) < len(all_keys(source))
    path = tmp_path / "some.rdb"
    b = backup(source, path, *options(keep, skip)).expect(0)
    check_rdb(path, source)
    with source.connect() as c:
        for db, name in all_keys(source) - want:
            c.call("SELECT", db)
            c.call("UNLINK", name)
    assert_equal(source, loaded(server, path))  # functions too
    assert b.metrics()["keys_written"] == len(want) == report(path)["keys"]
    assert ("no key was selected" in b.stderr) == (not want)
    assert not [name for name in report(path)["aux"] if name.startswith("repl-")]


@pytest.mark.parametrize("name", [n for n in find_servers() if n != "default"])
def test_backups_of_other_servers(servers, server, backup, tmp_path, name):  # noqa: F811
    source = server("source", binary=servers[name])
    fill(source, FILL)
    want = selected(source, ("*:1*", "hash*"))
    path = tmp_path / "some.rdb"
    backup(source, path, "--keys", "*:1*,hash*").expect(0)
    check_rdb(path, source)
    assert all_keys(loaded(server, path, binary=servers[name])) == want != set()


def test_with_databases(server, backup, tmp_path):  # noqa: F811
    source = server("source")
    for db in range(4):
        with source.connect(db) as c:
            c.feed([("SET", "user:%d" % db, "1"), ("SET", "cart:%d" % db, "1")])
    path = tmp_path / "some.rdb"
    backup(source, path, "--db", "1-2", "--keys", "user:*").expect(0)
    assert set(lines(path)) == {(1, b"user:1"), (2, b"user:2")}


# -- restore -----------------------------------------------------------------------------------
@pytest.mark.parametrize("keep, skip", CHOICES[:3])
def test_restoring_some_keys(server, target, restore, keep, skip):
    source = server("source")
    fill(source, FILL)
    source.call("SAVE")
    want = selected(source, keep or ("*",), skip)
    k = restore(source.dir + "/dump.rdb", target, *options(keep, skip)).expect(0)
    with source.connect() as c:
        for db, name in all_keys(source) - want:
            c.call("SELECT", db)
            c.call("UNLINK", name)
    assert_equal(source, target)
    m = k.metrics()
    assert m["keys_written"] == len(want) and m["keys_read"] == m["keys_filtered"] + len(want)


def test_nothing_selected_is_said(source, target, restore):
    source.call("SET", "user:1", "1")
    source.call("SAVE")
    k = restore(source.dir + "/dump.rdb", target, "--keys", "User:*").expect(0)
    assert "no key was selected: --keys, --skip-keys and --db leave out all 1" in k.stderr
    assert target.call("DBSIZE") == 0


def test_commands_are_not_chosen(source, target, restore, tmp_path):
    """Refused before anything is written where a file's beginning tells, else behind the snapshot."""
    aof = encode(["SET", "user:1", "1"]) + encode(["RENAME", "user:1", "cart:1"])
    (tmp_path / "plain.aof").write_bytes(aof)
    for option in ("--keys", "--skip-keys"):
        restore(tmp_path / "plain.aof", target, option, "user:*").expect(
            3, "holds commands, which reach several keys at once", "keyhaul backup --keys")
    assert target.call("DBSIZE") == 0
    source.call("SET", "user:2", "1")
    source.call("SAVE")
    with open(source.dir + "/dump.rdb", "rb") as f:
        rdb = f.read()
    (tmp_path / "both.aof").write_bytes(rdb + aof)
    restore(tmp_path / "both.aof", target, "--keys", "user:*").expect(
        3, "have been loaded", "into an empty server")
    assert target.call("KEYS", "*") == [b"user:2"]
    target.call("FLUSHALL")
    (tmp_path / "b.rdb").write_bytes(rdb)  # an increment without commands is none
    (tmp_path / "i.aof").write_bytes(b"")
    (tmp_path / "x.manifest").write_text("file b.rdb seq 1 type b\nfile i.aof seq 1 type i\n")
    restore(tmp_path, target, "--keys", "user:*").expect(0)
    assert target.call("KEYS", "*") == [b"user:2"]


# -- inspect, and what is not offered ----------------------------------------------------------
def test_inspecting_some_keys(source):
    fill(source, FILL)
    source.call("SAVE")
    path, want = source.dir + "/dump.rdb", selected(source, ("*list*",), ("*5*",))
    for what in (path, source.uri()):
        r = report(what, "--keys", "*list*", "--skip-keys", "*5*")
        assert r["keys"] == len(want) > 0
        assert r["left_out"] == len(all_keys(source)) - len(want)
        assert set(lines(what, "--keys", "*list*", "--skip-keys", "*5*")) == want
    said = run("inspect", path, "--keys", "*list*").stdout
    assert re.search(r"left out +[\d,]+ keys that were not asked for", said)


def test_wrong_patterns_and_commands():
    for words, want in [
            (("inspect", "x", "--keys", "a,,b"), "--keys: a pattern is empty"),
            (("inspect", "x", "--skip-keys", ""), "--skip-keys: needs a value (GLOB)"),
            (("inspect", "x", "--keys", "a\\"), "--keys: a backslash at the end stands for nothing"),
            (("migrate", "--keys", "a"), "--keys: unknown option")]:
        r = run(*words)
        assert r.returncode == 2 and want in r.stderr and r.stdout == ""
