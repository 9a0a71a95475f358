# SPDX-License-Identifier: BSD-3-Clause
# The wrong file, the wrong place: `restore` and `inspect` say what it is and what to do, before the
# target is asked for anything, and never what the file or a URI holds; `backup` before it forks.
import bz2
import gzip
import io
import lzma
import os
import pty
import re
import subprocess
import tarfile
import zipfile

import pytest

from lib.inspect import report, run
from lib.mover import keyhaul_binary
from lib.resp import encode
from lib.server import die_with_parent
from test_restore_files import NOBODY, rdb

NOWHERE = ("--target", "redis://127.0.0.1:1")  # nobody listens: it must not come to that
RDB = rdb((b"k", b"v", None))
SECRET = "hunter2"


def tar(data):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        info = tarfile.TarInfo("dump.rdb")
        info.size = len(data)
        t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zipped(data):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("dump.rdb", data)
    return out.getvalue()


CONTENTS = {
    "gzip": (gzip.compress(RDB), "compressed by gzip; unpack it on the way: zcat {f} | keyhaul {c} -"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(99), "by zstd; unpack it on the way: zstdcat {f} | keyhaul"),
    "xz": (lzma.compress(RDB), "by xz; unpack it on the way: xzcat {f} |"),
    "bzip2": (bz2.compress(RDB), "by bzip2; unpack it on the way: bzcat {f} |"),
    "lz4": (b"\x04\x22\x4d\x18" + bytes(99), "by lz4; unpack it on the way: lz4cat {f} |"),
    "zip": (zipped(RDB), "a zip archive; unpack it on the way: unzip -p {f} |"),
    "tar": (tar(RDB), "a tar archive; unpack it, and name the file in it"),
    "text": (b"requirepass " + SECRET.encode() + b"\n", "it is text, neither an RDB nor an AOF"),
    "script": (b"SET a 1\r\nSET b 2\r\n", "it is text, neither an RDB nor an AOF"),
    "encrypted": (bytes(range(128, 256)) * 9, "neither an RDB, which begins with REDIS or VALKEY"),
    "zeros": (bytes(5000), "neither an RDB, which begins with REDIS or VALKEY"),
    "empty": (b"", "is empty: there is nothing to read"),
    "one byte": (b"x", "it is text, neither"),
}


def both(*args, **kw):
    for command, more in (("inspect", ()), ("restore", NOWHERE)):
        yield command, run(command, *args, *more, **kw)


@pytest.mark.parametrize("what", CONTENTS)
def test_what_a_file_is(tmp_path, what):
    data, words = CONTENTS[what]
    path = tmp_path / "dump.rdb"
    path.write_bytes(data)
    for command, r in both(path):
        want = words.format(f=path, c=command)
        assert r.returncode == 1 and r.stdout == "" and SECRET not in r.stderr
        assert str(path) in r.stderr and want in r.stderr, r.stderr
        assert r.stderr.count("\n") == 1


@pytest.mark.parametrize("what", [w for w in CONTENTS if w != "empty"])
def test_what_comes_by_a_pipe(what, target):
    data, words = CONTENTS[what]
    want = re.escape(words).replace(r"on\ the\ way:\ ", r"before:\ .*")
    want = want.replace(r"\{f\}\ ", "").replace(r"\{c\}", r"\w+")
    for more in (("inspect", "-"), ("restore", "-", "--target", target.uri())):
        r = run(*more, stdin=data, text=False)
        said = r.stderr.decode()
        assert r.returncode == 1 and re.search("standard input: .*" + want, said), said
        assert SECRET not in said
    assert target.call("DBSIZE") == 0


def test_what_is_advised_works(target, tmp_path):
    path = tmp_path / "dump.rdb.gz"
    path.write_bytes(gzip.compress(RDB))
    r = run("restore", path, *NOWHERE)
    advice = r.stderr.strip().partition("on the way: ")[2]
    line = advice.replace("| keyhaul ", "| %s " % keyhaul_binary()) + " --target " + target.uri()
    subprocess.run(line, shell=True, check=True, capture_output=True, timeout=30)
    assert target.call("GET", "k") == b"v"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_files_of_others(tmp_path):
    path = tmp_path / "dump.rdb"
    path.write_bytes(RDB)
    os.chmod(path, 0)
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        os.chmod(folder, 0o755)

    def as_nobody():
        die_with_parent()
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    for words in (("inspect", path), ("restore", path, *NOWHERE)):
        try:
            r = subprocess.run([keyhaul_binary(), *map(str, words)], capture_output=True, text=True,
                               timeout=20, preexec_fn=as_nobody)
        except PermissionError:
            pytest.skip("the program is not to be run by others")
        assert r.returncode == 1
        assert "Permission denied; run keyhaul as a user who may read it, or copy it" in r.stderr


# -- names -------------------------------------------------------------------------------------
def test_directories(tmp_path):
    for _, r in both(tmp_path):
        assert r.returncode == 2 and "a directory without a manifest or an appendonly.aof; name " \
            "the file" in r.stderr
    (tmp_path / "dump.rdb").write_bytes(RDB)
    for _, r in both(tmp_path):
        assert r.returncode == 2 and "is it dump.rdb in it that you want? Then name that file" \
            in r.stderr
    (tmp_path / "other.rdb").write_bytes(RDB)
    for _, r in both(tmp_path):
        assert r.returncode == 2 and "is it one of the .rdb files in it" in r.stderr


def test_the_name_of_a_file_does_not_matter(tmp_path):
    """A manifest called otherwise, data called so."""
    (tmp_path / "b.aof").write_bytes(encode(["SET", "a", "1"]))
    (tmp_path / "list.txt").write_text("file b.aof seq 1 type b\n")
    assert report(tmp_path / "list.txt")["commands"]["commands"] == 1
    (tmp_path / "data.manifest").write_bytes(RDB)
    assert report(tmp_path / "data.manifest")["keys"] == 1
    (tmp_path / "aof.manifest").write_bytes(encode(["SET", "a", "1"]))
    assert report(tmp_path / "aof.manifest")["commands"]["commands"] == 1


def test_servers_in_the_place_of_files():
    """And no password in the words."""
    uri = "redis://:%s@127.0.0.1:1" % SECRET
    r = run("restore", uri, *NOWHERE)
    assert r.returncode == 2 and "keyhaul migrate --source URI" in r.stderr
    assert SECRET not in r.stderr
    r = run("backup", "--source", "redis://127.0.0.1:1", "--output", uri)
    assert r.returncode == 2 and "keyhaul migrate --target URI" in r.stderr
    assert SECRET not in r.stderr
    r = run("inspect", "localhost:6379")
    assert r.returncode == 2 and "a server is named by redis://host:port" in r.stderr


def test_where_a_backup_goes(source, tmp_path):
    def backup(*words):
        return run("backup", "--source", source.uri(), *words)
    for words, status, want in [
            (("--output", tmp_path), 2, "is a directory; name the file to make in it"),
            (("--output", tmp_path / "no" / "x.rdb"), 1, "No such file or directory; make its "
             "directory first"),
            (("--output", "-"), 2, "standard output cannot be taken back"),
            (("x.rdb",), 2, "the server is named by --source, the file by --output"),
            ((), 2, "--output: missing, say which file to write")]:
        r = backup(*words)
        assert r.returncode == status and want in r.stderr, r.stderr
    assert source.call("INFO", "stats").count(b"sync_full:0") == 1


# -- on a terminal -----------------------------------------------------------------------------
def on_a_terminal(*words):
    """Lines of standard error on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    env = {k: v for k, v in os.environ.items() if not k.startswith("KEYHAUL_")}
    p = subprocess.run([keyhaul_binary(), *map(str, words)], stderr=theirs, timeout=20,
                       stdout=subprocess.DEVNULL, env={**env, "COLUMNS": "80", "TERM": "dumb"})
    os.close(theirs)
    said = os.read(ours, 1 << 16).decode()
    os.close(ours)
    return p.returncode, said.splitlines()


def test_no_word_is_cut_by_the_edge(tmp_path):
    path = tmp_path / "text"
    path.write_text("hello")
    status, said = on_a_terminal("inspect", path)
    # a word that is longer than a line, such as a path, has one to itself
    assert status == 1 and len(said) > 1
    assert all(len(line) <= 80 or " " not in line.strip() for line in said)
    words = " ".join(" ".join(said).split())
    assert "it is text, neither an RDB nor an AOF; CONFIG GET dir" in words
    assert words == " ".join(run("inspect", path).stderr.split())
    status, said = on_a_terminal("backup", "--source", "redis://a", "--output", "-")
    assert status == 2 and said[-1] == "try: keyhaul help backup"
    assert all(len(line) <= 80 for line in said)
