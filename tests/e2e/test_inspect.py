# SPDX-License-Identifier: BSD-3-Clause
# `keyhaul inspect`: every golden dump against its manifest, counts against our own, files and
# servers, what another version could not take, broken files, memory.
import gzip
import hashlib
import os
import pathlib
import random
import struct
import subprocess
import tempfile
import time

import pytest

from lib.canon import lengthy, read_manifest
from lib.dataset import Sizes, count_keys, fill
from lib.fakeprimary import rdb_file, rdb_len, rdb_str, rdb_string_record
from lib.inspect import lines, read_lines, report, run, state_sha256
from lib.mover import keyhaul_binary
from lib.server import die_with_parent, find_servers, peak_rss_mb

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"
DUMPS = sorted(p.stem for p in (GOLDEN / "rdb").glob("*.tsv"))
RSS_MB = 64


def dump(name):
    return GOLDEN / "rdb" / (name + ".rdb")


# -- golden dumps ------------------------------------------------------------------------------
def manifest_keys(name):
    with open(GOLDEN / "rdb" / (name + ".tsv")) as f:
        for line in f:
            kind, *col = line.rstrip("\n").split("\t")
            if kind == "key":
                yield col


def number(text):
    return None if text == "-" else int(text)


@pytest.mark.parametrize("name", DUMPS)
def test_lines_are_those_of_the_manifest(name):
    got = lines(dump(name))
    for db, key, kind, expires, sha, freq, idle, fields, stream in manifest_keys(name):
        line = got.pop((int(db), bytes.fromhex(key)))
        assert line["type"] == kind
        assert line["expire_ms"] == (None if expires == "-1" else int(expires))
        assert line["sha256"] == sha
        assert (line["freq"], line["idle_s"]) == (number(freq), number(idle))
        assert line["state_sha256"] == state_sha256(fields, stream), key
        assert (line["elements"] is None) == (kind == "module")
    assert not got


@pytest.mark.parametrize("name", DUMPS)
def test_report_is_that_of_the_manifest(name):
    m = read_manifest(GOLDEN / "rdb" / (name + ".tsv"))
    r = report(dump(name), "--top", "1000")
    want = {}
    for k in m.keys.values():
        want.setdefault(k.db, {}).setdefault(k.type, []).append(k)
    got = {d["db"]: {t: s["keys"] for t, s in d["types"].items()} for d in r["databases"]}
    assert got == {db: {t: len(v) for t, v in kinds.items()} for db, kinds in want.items()}
    assert r["keys"] == len(m.keys) == sum(e["keys"] for e in r["encodings"])
    assert r["expires"] == sum(k.expires != -1 for k in m.keys.values())
    assert r["functions"] == len(m.functions)
    assert sum(r["expiry"].values()) == r["keys"]
    assert r["expiry"]["none"] == r["keys"] - r["expires"]
    assert r["expiry"]["past"] == sum(-1 != k.expires <= time.time() * 1000
                                      for k in m.keys.values())
    assert r["rdb_bytes"] == dump(name).stat().st_size
    # every record was weighed once, and they are nearly the whole file
    for part in (r["databases"], r["encodings"], r["biggest"]):
        assert sum(x["bytes"] for x in part) == r["bytes"] or part is r["biggest"] and \
            r["keys"] > 1000
    assert r["bytes"] < r["rdb_bytes"]
    sizes = [b["bytes"] for b in r["biggest"]]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) == min(1000, r["keys"])


@pytest.mark.parametrize("name", ["redis-2.8.24", "redis-7.0.15", "redis-8.6.3", "valkey-9.1.2"])
def test_cheap_counts_are_those_of_the_decoder(name):
    """Elements told by the report without decoding are those of the decoded line."""
    decoded, told = lines(dump(name)), 0
    for b in report(dump(name), "--top", "1000")["biggest"]:
        if b["elements"] is not None:
            assert b["elements"] == decoded[b["db"], b["key"].encode()]["elements"], b["key"]
            told += 1
    assert told > 20


def test_the_same_content_has_the_same_line_in_every_version():
    """Encodings differ from 2.8 to 9.1; the lines of keys that hold the same do not."""
    first = lines(dump("redis-2.8.24"))
    for other in ("redis-6.2.16", "redis-7.0.15", "redis-8.6.3", "valkey-9.1.2"):
        second = lines(dump(other))
        plain = [k for k in first.keys() & second.keys()
                 if k[1].startswith((b"hash:n:", b"list:n:", b"set:n:", b"zset:val"))]
        assert len(plain) >= 10
        assert all(first[k] == second[k] for k in plain)


# -- counted by hand ---------------------------------------------------------------------------
def made_records():
    """[(db, name, record)] with what the report must say of them."""
    rng = random.Random(4)
    out = []
    for i in range(3000):
        name = b"key:%d" % i
        expiry = b"\xfc" + struct.pack("<Q", 4_000_000_000_000 + i) if i % 3 == 0 else b""
        if i % 5 == 0:
            n = rng.randrange(1, 40)
            body = b"\x01" + rdb_str(name) + rdb_len(n) + b"".join(
                rdb_str(b"item %d" % j) for j in range(n))
        else:
            body = rdb_string_record(name, rng.randbytes(rng.randrange(300)))
        out.append((i % 4, name, expiry + body))
    return out


def test_bytes_are_those_of_the_records(tmp_path):
    records = made_records()
    body = b""
    for db in range(4):
        body += b"\xfe" + rdb_len(db) + b"".join(r for d, _, r in records if d == db)
    path = tmp_path / "made.rdb"
    path.write_bytes(rdb_file(body))
    r = report(path, "--top", "100")
    for d in r["databases"]:
        mine = [rec for db, _, rec in records if db == d["db"]]
        assert (d["keys"], d["bytes"]) == (len(mine), sum(map(len, mine)))
        lists = [m for m in mine if b"item 0" in m]
        assert d["types"]["list"] == {"keys": len(lists), "bytes": sum(map(len, lists))}
    assert r["expires"] == r["expiry"]["later"] == 1000
    order = sorted(((-len(rec), i) for i, (_, _, rec) in enumerate(records)))[:100]
    assert [b["bytes"] for b in r["biggest"]] == [-n for n, _ in order]
    one = report(path, "--db", "2", "--top", "0")
    assert [d["db"] for d in one["databases"]] == [2] and one["biggest"] == []
    assert one["left_out"] == 3000 - one["keys"]


def test_key_names_are_told_plain_or_in_hex(tmp_path):
    names = ["plain", 'quote" and \\', "Grüße €", b"\xff\x00bin", b"new\nline", "", "\u0085",
             b"\xed\xa0\x80", "x" * 5000, b"\x00" * 5000]
    names = [n.encode() if isinstance(n, str) else n for n in names]
    path = tmp_path / "made.rdb"
    path.write_bytes(rdb_file(b"".join(rdb_string_record(n, b"v") for n in names)))
    got = lines(path)
    assert sorted(n for _, n in got) == sorted(names)
    plain = {n for (_, n), line in got.items() if "key" in line}
    assert plain == {n for n in names if n.isalnum() or b"quote" in n or b"Gr" in n or n == b""}
    biggest = report(path, "--top", "2")["biggest"]
    assert {b["key_bytes"] for b in biggest} == {5000}
    assert {b["key_hex_start"] for b in biggest} == {"78" * 200, "00" * 200}


# -- for another version -----------------------------------------------------------------------
def fates(name, version):
    return {e["encoding"]: (e["for"], e.get("as"), *e.get("loses", []))
            for e in report(dump(name), "--for", version)["encodings"]}


def test_for_names_what_another_could_not_take():
    new = fates("redis-8.6.3", "redis-6.2")
    assert new["string"] == ("as-is", None)
    assert new["list-quicklist-2"] == ("turned", "list")
    assert new["hash-metadata"] == ("may-lose", "hash", "field-expiry")
    assert new["stream-listpacks-4"] == ("may-lose", "stream-listpacks", "counters", "active",
                                         "idempotence")
    assert fates("redis-8.6.3", "redis-4.0")["stream-listpacks-4"] == ("refused", None)
    assert fates("redis-8.6.3", "valkey-9.1")["hash-metadata"] == ("turned", "hash-2")
    assert fates("valkey-9.1.2", "redis-7.4")["hash-2"] == ("turned", "hash-metadata")
    assert fates("redis-6.2.16-module", "redis-6.0")["module-2"] == ("refused", None)
    assert all(f[0] == "as-is" for f in fates("redis-7.0.15", "redis-7.0").values())
    assert all(f[0] == "as-is" for f in fates("redis-2.8.24", "redis-8.6").values())
    r = report(dump("redis-7.0.15"), "--for", "redis-6.2")
    assert r["for"] == "Redis 6.2" and r["takes_functions"] is False


def test_for_names_it_to_people_too():
    r = run("inspect", dump("redis-8.6.3"), "--for", "redis-4.0")
    assert r.returncode == 0
    words = " ".join(r.stdout.split())
    for want in ("for Redis 4.0", "stream-listpacks-4: 11 keys, CANNOT BE TAKEN; the first is db 0",
                 "functions: CANNOT BE TAKEN", "hash-metadata: 2 keys, as hash, which MAY LOSE "
                 "expiries of fields; the first is db 0"):
        assert want in words
    assert max(map(len, r.stdout.splitlines())) <= 80
    assert "everything as it is" in run("inspect", dump("redis-7.0.15"), "--for",
                                        "redis-7.0").stdout


# -- files and servers -------------------------------------------------------------------------
def test_standard_input_and_pipes():
    raw = dump("redis-7.0.15").read_bytes()
    r = run("inspect", "-", "--output", "jsonl", stdin=raw, text=False)
    assert r.returncode == 0
    assert read_lines(r.stdout.decode()) == lines(dump("redis-7.0.15"))


def test_the_snapshot_of_an_aof(tmp_path):
    path = tmp_path / "appendonly.aof"
    path.write_bytes(dump("redis-7.0.15").read_bytes() + b"*1\r\n$4\r\nPING\r\n")
    r = report(path)
    assert r["commands_follow"] and r["keys"] == report(dump("redis-7.0.15"))["keys"]
    assert r["rdb_bytes"] == path.stat().st_size - 14
    assert r["commands"]["names"] == [{"name": "PING", "commands": 1, "bytes": 14}]


def test_a_live_server_is_what_it_saves(source, tmp_path):
    fill(source, Sizes(small_keys=500))
    source.call("CONFIG", "SET", "maxmemory", "1gb")
    source.call("SAVE")
    saved, live = lines(os.path.join(source.dir, "dump.rdb")), lines(source.uri())
    for line in (*saved.values(), *live.values()):
        line["idle_s"] = line["freq"] = None
    assert len(live) == count_keys(source) and live == saved
    r = report(source.uri(), "--for", "redis-6.2")
    assert r["source"]["server"] == "Redis " + ".".join(map(str, source.version))
    assert r["source"]["uri"] == source.uri() and r["source"]["role"] == "primary"
    assert r["source"]["maxmemory"] == 1 << 30 and r["source"]["used_memory"] > 100_000
    assert r["keys"] == len(live)
    assert list(lines(source.uri() + "/3")) == [k for k in live if k[0] == 3]
    assert source.call("DBSIZE") > 0  # only read


def test_a_password_is_used_and_never_told(server):
    s = server("locked", password="hunter2")
    s.call("SET", "a", "1")
    uri = s.uri(password="hunter2")
    assert report(uri)["keys"] == 1
    r = run("inspect", uri)
    assert r.returncode == 0 and "hunter2" not in r.stdout + r.stderr
    assert report(s.uri(), env={"KEYHAUL_SOURCE_PASSWORD": "hunter2"})["keys"] == 1
    r = run("inspect", s.uri(password="wrong-one"))
    assert r.returncode == 1 and "password" in r.stderr and "wrong-one" not in r.stderr


def test_a_signal_ends_it(tmp_path):
    """A pipe that gives nothing more: stopped within a moment, status 1, said."""
    k = subprocess.Popen([keyhaul_binary(), "inspect", "-"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         preexec_fn=die_with_parent)
    time.sleep(0.3)
    k.terminate()
    assert k.wait(timeout=5) == 1
    out, err = k.communicate()
    assert "stopped by a signal" in err and out == ""


# -- what is broken ----------------------------------------------------------------------------
@pytest.mark.parametrize("content, status, words", [
    (b"", 1, "is empty"),
    (b"hello, world", 1, "it is text, neither an RDB nor an AOF"),
    (b"RED", 1, "unexpected end of input"),
    (b"REDIS0009", 1, "unexpected end of input"),
    (b"REDIS0009\xfe\0\x63\x01kx", 1, "RDB byte 12: unknown value type 99"),
    (None, 2, "No such file"),
])
def test_what_is_no_snapshot(tmp_path, content, status, words):
    path = tmp_path / "odd"
    if content is not None:
        path.write_bytes(content)
    for form in ("human", "json", "jsonl"):
        r = run("inspect", path, "--output", form)
        assert r.returncode == status and words in r.stderr and r.stderr.startswith("keyhaul")
        assert r.stdout == ""


def test_a_directory_is_told(tmp_path):
    r = run("inspect", tmp_path)
    assert r.returncode == 2 and "is a directory" in r.stderr


def test_what_came_before_the_break_is_shown(tmp_path):
    raw = dump("redis-7.0.15").read_bytes()
    path = tmp_path / "cut.rdb"
    path.write_bytes(raw[:len(raw) // 2])
    r = run("inspect", path)
    assert r.returncode == 1 and r.stdout.startswith("ONLY UP TO WHERE IT FAILED")
    assert run("inspect", path, "--output", "json").stdout == ""
    got = run("inspect", path, "--output", "jsonl")
    assert got.returncode == 1
    whole = lines(dump("redis-7.0.15"))
    assert 10 < len(read_lines(got.stdout)) < len(whole)
    assert all(whole[k] == v for k, v in read_lines(got.stdout).items())
    wrong = tmp_path / "sum.rdb"
    wrong.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    r = run("inspect", wrong)
    assert r.returncode == 1 and "the checksum is wrong" in r.stderr


def test_hostile_files(tmp_path):
    """Bytes changed at random: a value or an error, within a second, never a crash."""
    rng = random.Random(11)
    path = tmp_path / "hostile.rdb"
    names = ["redis-2.8.24-nochecksum", "redis-8.6.3-nochecksum", "valkey-9.1.2-module",
             "redis-6.2.16-module"]
    failed = 0
    for i in range(120):
        raw = bytearray(dump(names[i % 4]).read_bytes())
        for _ in range(rng.choice((1, 3, 30))):
            raw[rng.randrange(9, len(raw))] = rng.choice((0, 0x80, 0x81, 0xff, rng.randrange(256)))
        path.write_bytes(raw)
        for form in ("json", "jsonl"):
            r = run("inspect", path, "--output", form, timeout=20, text=False)
            assert r.returncode in (0, 1), (i, form, r.returncode, r.stderr)
            assert (r.returncode == 0) == (r.stderr == b"")
            failed += r.returncode
    assert failed > 60


# -- memory ------------------------------------------------------------------------------------
def peak_of(pieces, *options):
    """Peak RSS and output of an inspection fed by hand: it is measured before the input ends."""
    with tempfile.TemporaryFile() as out:
        k = subprocess.Popen([keyhaul_binary(), "inspect", "-", *options], stdin=subprocess.PIPE,
                             stdout=out, preexec_fn=die_with_parent)
        for p in pieces:
            k.stdin.write(p)
        k.stdin.write(b"\xff")
        k.stdin.flush()
        idle_at = time.monotonic() + 60
        while sleeping_for(k.pid) < 5:  # until all of it has been worked off
            assert time.monotonic() < idle_at and k.poll() is None
        peak = peak_rss_mb(k.pid)
        k.communicate(bytes(8), timeout=60)
        assert k.returncode == 0
        out.seek(0)
        return peak, out.read()


def sleeping_for(pid, looks=5):
    """How many of so many looks, 20 ms apart, saw no processor time used."""
    still, before = 0, None
    for _ in range(looks + 1):
        with open("/proc/%d/stat" % pid) as f:
            now = f.read().rsplit(")", 1)[1].split()[11:13]
        still += now == before
        before = now
        time.sleep(0.02)
    return still


HEAD = b"REDIS0010\xfe\0"


def test_memory_of_a_long_file():
    value = random.Random(1).randbytes(1 << 20)
    record = b"".join(rdb_string_record(b"key:%d" % i, value[:1 << i]) for i in range(21))
    hash_ = b"\4" + rdb_str(b"hash") + rdb_len(20000) + b"".join(
        rdb_str(b"field:%d" % i) + rdb_str(b"v" * 50) for i in range(20000))
    pieces = [HEAD, *[record + hash_] * 60]
    for options in (("--output", "json"), ("--output", "jsonl")):
        peak, _ = peak_of(pieces, *options)
        assert peak <= RSS_MB, (options, peak)


def test_memory_of_a_set_in_no_order():
    """A million members, sorted through a file: the digest is the one of Python's sort."""
    members = [b"member:%08d" % (i * 7919 % 1_000_003) * 3 for i in range(1_000_000)]
    pieces = [HEAD, b"\2" + rdb_str(b"set") + rdb_len(len(members)),
              b"".join(map(rdb_str, members))]
    peak, out = peak_of(pieces, "--output", "jsonl")
    (line,) = read_lines(out.decode()).values()
    want = hashlib.sha256(b"set\0" + lengthy(*sorted(members))).hexdigest()
    assert (line["sha256"], line["elements"]) == (want, len(members))
    assert peak <= RSS_MB, peak


def test_memory_of_large_elements():
    """6 MB each, 20 of them, and a key of 8 MB."""
    rng = random.Random(2)
    members = [rng.randbytes(6_000_000) for _ in range(20)]
    name = rng.randbytes(8 << 20)
    pieces = [HEAD, rdb_string_record(name, b"v"), b"\2" + rdb_str(b"set") + rdb_len(20),
              *map(rdb_str, members)]
    peak, out = peak_of(pieces, "--output", "jsonl")
    got = read_lines(out.decode())
    want = hashlib.sha256(b"set\0" + lengthy(*sorted(members))).hexdigest()
    assert got[0, b"set"]["sha256"] == want and (0, name) in got
    assert peak <= RSS_MB, peak


def noise(n, seed=3):
    return (random.Random(seed).randbytes(1 << 20) * (n // (1 << 20) + 1))[:n]


def test_memory_of_elements_that_are_larger_than_it():
    """A field of 100 MB, an element of 60 MB, members of 20 MB: told by the definition."""
    value, element = noise(100_000_000), noise(60_000_000, 4)
    members = [noise(20_000_000) + b"%d" % i for i in (3, 1, 2)] + [b"a", b"z", noise(20_000_000)]
    pieces = [HEAD, b"\4" + rdb_str(b"hash") + rdb_len(3) + rdb_str(b"small") + rdb_str(b"1"),
              rdb_str(b"large"), rdb_str(value), rdb_str(b"middle") + rdb_str(b"2"),
              b"\x12" + rdb_str(b"list") + rdb_len(2) + rdb_len(1), rdb_str(element),
              rdb_len(1), rdb_str(b"end"),
              b"\2" + rdb_str(b"set") + rdb_len(len(members)), *map(rdb_str, members),
              b"\5" + rdb_str(b"zset") + rdb_len(2), rdb_str(members[0]), struct.pack("<d", 1.5),
              rdb_str(b"m"), struct.pack("<d", -2)]
    peak, out = peak_of(pieces, "--output", "jsonl")
    got = {name: (m["sha256"], m["elements"]) for (_, name), m in read_lines(out.decode()).items()}

    def told(*parts):
        return hashlib.sha256(b"".join(parts)).hexdigest()
    assert got == {
        b"hash": (told(b"hash\0", lengthy(b"large", value, b"middle", b"2", b"small", b"1")), 3),
        b"list": (told(b"list\0", lengthy(element, b"end")), 2),
        b"set": (told(b"set\0", lengthy(*sorted(members))), 6),
        b"zset": (told(b"zset\0", lengthy(b"m"), struct.pack(">d", -2), lengthy(members[0]),
                       struct.pack(">d", 1.5)), 2)}
    assert peak <= RSS_MB, peak


@pytest.mark.parametrize("name", sorted(find_servers()))
def test_large_elements_of_servers(servers, server, name):
    """However a version stores them, the digest is that of what was written."""
    value, text = noise(20_000_000), b"".join(b"%011d" % i for i in range(1_000_000))
    s = server("source", binary=servers[name])
    with s.connect(timeout=300) as c:
        c.call("RPUSH", "list", "first", value, text, "last")
        c.call("HSET", "hash", "f", value, text, "small")
        c.call("SADD", "set", text, "a", value)
        c.call("SAVE")
    got = {k: m["sha256"] for (_, k), m in lines(os.path.join(s.dir, "dump.rdb")).items()}
    both = sorted([(b"f", value), (text, b"small")])
    assert got == {
        b"list": hashlib.sha256(b"list\0" + lengthy(b"first", value, text, b"last")).hexdigest(),
        b"hash": hashlib.sha256(b"hash\0" + lengthy(*[x for p in both for x in p])).hexdigest(),
        b"set": hashlib.sha256(b"set\0" + lengthy(*sorted([text, b"a", value]))).hexdigest()}


def test_one_gigabyte():
    """Of small values and one hash of 3 million fields, in less than 64 MB; both ways."""
    rng = random.Random(6)
    block = b"".join(rdb_string_record(b"key:%07d" % i, rng.randbytes(1000)) for i in range(8000))
    fields = [b"".join(rdb_str(b"field:%d" % (i * 7919 % 3_000_017)) + rdb_str(b"v" * 50)
                       for i in range(at, at + 100_000)) for at in range(0, 3_000_000, 100_000)]
    hash_ = b"\4" + rdb_str(b"hash") + rdb_len(3_000_000)
    pieces = [HEAD, *[block] * 100, hash_, *fields, *[block] * 10]
    assert sum(map(len, pieces)) > 1_000_000_000
    for options in (("--output", "json"), ("--output", "jsonl")):
        peak, _ = peak_of(pieces, *options)
        assert peak <= RSS_MB, (options, peak)


def test_compressed_backups_through_a_pipe(tmp_path):
    packed = tmp_path / "dump.rdb.gz"
    packed.write_bytes(gzip.compress(dump("valkey-9.1.2").read_bytes()))
    with subprocess.Popen(["zcat", str(packed)], stdout=subprocess.PIPE) as z:
        r = run("inspect", "-", "--output", "jsonl", stdin=z.stdout)
    assert r.returncode == 0 and read_lines(r.stdout) == lines(dump("valkey-9.1.2"))
