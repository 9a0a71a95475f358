# SPDX-License-Identifier: BSD-3-Clause
"""The command line as a user meets it: texts, wrong usage, secrets, signals. Needs no server: where
one is wanted, a socket that takes connections and never answers stands in."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
KEYHAUL = os.environ.get("KEYHAUL", str(ROOT / "build" / "keyhaul"))
SECRET = "hunter2"
SIDES = ["--source", "redis://127.0.0.1:1", "--target", "redis://127.0.0.1:2"]
TLS_SIDES = ["--source", "rediss://127.0.0.1:1", "--target", "rediss://127.0.0.1:2"]
ENV = {k: v for k, v in os.environ.items() if not k.startswith("KEYHAUL_")}


def run(*args, **env):
    return subprocess.run([KEYHAUL, *args], capture_output=True, text=True, timeout=30,
                          stdin=subprocess.DEVNULL, env={**ENV, **env})


@pytest.fixture
def silent():
    """A listening socket; connections succeed and nothing ever comes back."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(16)
        yield s.getsockname()[1]


def start(port, *args):
    uri = f"redis://user:{SECRET}@127.0.0.1:{port}"
    return subprocess.Popen([KEYHAUL, "migrate", "--source", uri, f"--target={uri}", *args],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV)


def wait_for(look, what, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        got = look()
        if got:
            return got
        time.sleep(0.02)
    pytest.fail(f"no {what} after {seconds} s")


# --- texts


@pytest.mark.parametrize("args", [[], ["help"], ["--help"], ["-h"], ["help", "migrate"],
                                  ["help", "help"], ["help", "version"], ["migrate", "--help"],
                                  ["migrate", "-h"], ["help", "restore"], ["restore", "--help"],
                                  ["restore", "-h"]])
def test_help_fits_80_columns_and_names_the_exit_statuses(args):
    r = run(*args)
    assert r.returncode == 0 and r.stderr == ""
    assert max(len(line) for line in r.stdout.splitlines()) <= 80
    for status in range(5):
        assert re.search(rf"^  {status}  \w", r.stdout, re.M)


def test_help_is_the_same_either_way():
    for command in ("migrate", "restore"):
        assert run("help", command).stdout == run(command, "--help").stdout
    assert run().stdout == run("--help").stdout == run("help").stdout


def test_version():
    for args in (["--version"], ["version"]):
        r = run(*args)
        assert r.returncode == 0
        assert re.fullmatch(r"keyhaul \d+\.\d+\.\d+\n", r.stdout)


def test_generated_documents_are_current():
    for path, args in (("docs/reference/migrate.md", ["--markdown", "migrate"]),
                       ("docs/reference/restore.md", ["--markdown", "restore"]),
                       ("docs/keyhaul.1", ["--man"])):
        assert run("help", *args).stdout == (ROOT / path).read_text(), f"{path}: run make docs"


def test_full_output_device_is_an_error():
    with open("/dev/full", "w", encoding="ascii") as full:
        r = subprocess.run([KEYHAUL, "help", "migrate"], stdout=full, stderr=subprocess.PIPE,
                           text=True, timeout=30)
    assert r.returncode == 1
    assert r.stderr.startswith("keyhaul: cannot write to standard output")


# --- wrong usage: status 2, the option is named, no secret is repeated

WRONG = [
    ("--source", ["--target", "redis://h"]),
    ("--target", ["--source", "redis://h"]),
    ("--source", ["--source", f"http://:{SECRET}@h", "--target", "redis://h"]),
    ("--source", ["--source", f"redis://:{SECRET}@h:port", "--target", "redis://h"]),
    ("--source", ["--source", f"{SECRET}@h", "--target", "redis://h"]),
    ("--target", ["--source", "redis://h", "--target", f"redis://:{SECRET}@"]),
    ("--target", ["--source", "redis://h", "--target", "redis://h/3"]),
    ("--source", ["--source", "redis://h", "--source", f"redis://:{SECRET}@h"]),
    ("--db", [*SIDES, "--db", "x"]),
    ("--db", [*SIDES, "--db", "3-1"]),
    ("--db", [*SIDES, "--db", f"redis://:{SECRET}@h"]),
    ("--db", [*SIDES, "--db"]),
    ("--db", [*SIDES, "--db", "--quiet"]),
    ("--db-map", [*SIDES, "--db-map", "0"]),
    ("--db-map", [*SIDES, "--db", "0,1", "--db-map", "0:1"]),
    ("--db-map", [*SIDES, "--db-map", SECRET]),
    ("--type", [*SIDES, "--type", "ful"]),
    ("--type", [*SIDES, f"--type=redis://:{SECRET}@h"]),
    ("--on-conflict", [*SIDES, "--on-conflict", "replace"]),
    ("--on-error", [*SIDES, "--on-error", "ignore"]),
    ("--until", [*SIDES, "--until", "done"]),
    ("--output", [*SIDES, "--output", "xml"]),
    ("--log-level", [*SIDES, "--log-level", "verbose"]),
    ("--spool-max", [*SIDES, "--spool-max", "lots"]),
    ("--spool-max", [*SIDES, "--spool-max", "0"]),
    ("--connect-timeout", [*SIDES, "--connect-timeout", "10"]),
    ("--connect-timeout", [*SIDES, "--connect-timeout", "0s"]),
    ("--io-timeout", [*SIDES, "--io-timeout", "1y"]),
    ("--retry-time", [*SIDES, "--retry-time", "-1s"]),
    ("--quiet", [*SIDES, "--quiet=yes"]),
    ("--log-file", [*SIDES, "--log-file", ""]),
    ("--tls-ca", [*SIDES, "--tls-ca", "ca.pem"]),
    ("--source-tls-ca", [*SIDES, "--source-tls-ca", "ca.pem"]),
    ("--tls-cert", [*TLS_SIDES, "--tls-cert", "c.pem"]),
    ("--target-tls-key", [*TLS_SIDES, "--target-tls-key", "k.pem"]),
    ("--insecure-skip-verify", [*SIDES, "--insecure-skip-verify"]),
    ("--source-password-file", [*SIDES, "--source-password-file", f"/nowhere/{SECRET}"]),
    ("--target-password-file", [*SIDES, "--target-password-file", "/dev/null"]),
    ("--sorce", ["--sorce", f"redis://:{SECRET}@h"]),
    ("--sorce", [f"--sorce=redis://:{SECRET}@h"]),
    ("--source-passwor", [*SIDES, "--source-passwor", SECRET]),
    ("-p", [*SIDES, f"-p{SECRET}"]),
    ("argument 1", [f"redis://:{SECRET}@h"]),
    ("argument 5", [*SIDES, SECRET]),
    ("unknown option", [*SIDES, f"--redis://:{SECRET}@h"]),
]


@pytest.mark.parametrize("name,args", WRONG, ids=[" ".join(a[-2:])[:40] for _, a in WRONG])
def test_wrong_usage(name, args):
    r = run("migrate", *args)
    assert r.returncode == 2
    assert r.stdout == ""
    first, second = r.stderr.splitlines()
    assert re.match(rf"keyhaul migrate: {re.escape(name)}\b", first), first
    assert second == "try: keyhaul help migrate"
    assert SECRET not in r.stderr


TARGET = ["--target", "redis://127.0.0.1:2"]
WRONG_RESTORE = [
    ("FILE: missing", TARGET),
    ("FILE: missing", [*TARGET, "--"]),
    ("FILE: must not be empty", ["", *TARGET]),
    ("FILE: takes just one, argument 4", ["a.rdb", *TARGET, SECRET]),
    ("FILE: takes just one, argument 2", ["a.rdb", SECRET, *TARGET]),
    ("--target", ["a.rdb"]),
    ("--target", ["a.rdb", "--target", f"http://:{SECRET}@h"]),
    ("--target", ["a.rdb", *TARGET, *TARGET]),
    ("--target", ["a.rdb", "--target", "redis://h/3"]),
    ("--source", ["a.rdb", *TARGET, "--source", f"redis://:{SECRET}@h"]),
    ("--until", ["a.rdb", *TARGET, "--until", "caught-up"]),
    ("--type", ["a.rdb", *TARGET, "--type=full"]),
    ("--source-password-file", ["a.rdb", *TARGET, f"--source-password-file={SECRET}"]),
    ("--on-conflict", ["a.rdb", *TARGET, "--on-conflict", "replace"]),
    ("--db", ["a.rdb", *TARGET, "--db", "x"]),
]


@pytest.mark.parametrize("words,args", WRONG_RESTORE,
                         ids=[" ".join(a[-2:])[:40] for _, a in WRONG_RESTORE])
def test_wrong_usage_of_restore(words, args):
    r = run("restore", *args)
    assert r.returncode == 2 and r.stdout == ""
    first, second = r.stderr.splitlines()
    assert first.startswith(f"keyhaul restore: {words}"), first
    assert second == "try: keyhaul help restore"
    assert SECRET not in r.stderr


def test_a_restore_needs_no_source(silent):
    """The file may stand before the options or behind them; one that is not there is named."""
    target = f"redis://127.0.0.1:{silent}"
    for args in (["nowhere.rdb", "--target", target], ["--target", target, "nowhere.rdb"]):
        r = run("restore", *args)
        assert r.returncode == 2 and "cannot open nowhere.rdb" in r.stderr


def test_near_names_are_suggested():
    assert "did you mean --source?" in run("migrate", "--sorce", "x").stderr
    assert "did you mean --source?" in run("migrate", "-source", "x").stderr
    assert "did you mean --on-conflict?" in run("migrate", "--onconflict", "x").stderr
    assert "did you mean migrate?" in run("migrat").stderr
    assert "did you mean restore?" in run("restor").stderr
    assert "did you mean --target?" in run("restore", "a.rdb", "--targe", "x").stderr


@pytest.mark.parametrize("args", [["migrat"], [f"redis://:{SECRET}@h"], [""], ["help", "migrat"],
                                  ["help", "migrate", "x"], ["version", "x"]])
def test_unknown_commands(args):
    r = run(*args)
    assert r.returncode == 2 and r.stdout == ""
    assert r.stderr.startswith("keyhaul") and "try: keyhaul help" in r.stderr
    assert SECRET not in r.stderr


def test_wrong_usage_as_json():
    r = run("migrate", "--output", "json", "--source", f"redis://:{SECRET}@h")
    assert r.returncode == 2
    event = json.loads(r.stdout)
    assert (event["event"], event["code"], event["exit_status"]) == ("error", "usage", 2)
    assert event["message"].startswith("--target:")


# --- failures


def test_refused_connection_is_one_line_and_status_1():
    with socket.socket() as s:  # a port that nobody listens on
        s.bind(("127.0.0.1", 0))
        uri = f"redis://user:{SECRET}@127.0.0.1:{s.getsockname()[1]}"
        r = run("migrate", "--source", uri, "--target", uri, "--quiet", "--log-level", "debug",
                KEYHAUL_SOURCE_PASSWORD=SECRET)
    assert r.returncode == 1 and r.stdout == ""
    assert r.stderr.splitlines()[-1].startswith("keyhaul: ")
    assert SECRET not in r.stderr


def test_refused_connection_as_json():
    r = run("migrate", *SIDES, "--output", "json")
    assert r.returncode == 1
    events = [json.loads(line) for line in r.stdout.splitlines()]
    assert [e["event"] for e in events[-2:]] == ["error", "summary"]
    assert events[-2]["code"] == "network"
    assert events[-1]["outcome"] == "failed" and events[-1]["error"] == events[-2]["message"]
    logged = [json.loads(line) for line in r.stderr.splitlines()]
    assert logged[-1]["msg"] == events[-2]["message"]


def test_unwritable_files_are_found_at_once():
    for option in ("--metrics-file", "--log-file"):
        r = run("migrate", *SIDES, option, "/nowhere/file")
        assert r.returncode == 1
        assert r.stderr.startswith(f"keyhaul: {option}: ") and "/nowhere/file" in r.stderr


# --- a running one


def test_passwords_leave_the_command_line(silent):
    p = start(silent)
    try:
        cmdline = pathlib.Path(f"/proc/{p.pid}/cmdline")
        wait_for(lambda: b"***@127.0.0.1" in cmdline.read_bytes(), "wiped command line")
        time.sleep(0.1)
        words = cmdline.read_bytes()
        assert SECRET.encode() not in words and b"user" not in words
        assert words.count(b"***@127.0.0.1:%d" % silent) == 2
    finally:
        p.kill()
        p.communicate()


def test_json_lines_metrics_and_stop(silent, tmp_path):
    metrics = tmp_path / "metrics.json"
    p = start(silent, "--output", "json", "--metrics-file", str(metrics), "--io-timeout", "60s")
    try:
        running = json.loads(wait_for(lambda: metrics.exists() and metrics.read_text(), "metrics"))
        assert running["schema"] == 1 and running["pid"] == p.pid
        assert running["outcome"] is None and running["exit_status"] is None
        first = json.loads(p.stdout.readline())
        assert first["event"] == "progress" and first["phase"] == "connect"
        assert first["keys"] == 0 and first["percent"] is None
        p.send_signal(signal.SIGTERM)
        out, err = p.communicate(timeout=15)
    finally:
        p.kill()
    events = [json.loads(line) for line in out.splitlines()]
    assert "stopping" in [e["event"] for e in events]
    last = events[-1]
    assert (last["event"], last["outcome"], last["exit_status"]) == ("summary", "stopped", 0)
    assert p.returncode == 0
    ended = json.loads(metrics.read_text())
    assert (ended["outcome"], ended["exit_status"], ended["error"]) == ("stopped", 0, None)
    assert list(tmp_path.iterdir()) == [metrics]
    assert SECRET not in out + err + metrics.read_text()
    documented = (ROOT / "docs/reference/output.md").read_text()
    for names in (first, last, ended, ended["counters"]):
        for name in names:
            assert f"`{name}`" in documented or name in ("event", "wall_ms"), name


def test_a_second_signal_leaves_at_once(silent):
    p = start(silent, "--io-timeout", "60s")
    try:
        time.sleep(0.5)
        p.send_signal(signal.SIGSTOP)  # so that both are there before it can act on the first
        p.send_signal(signal.SIGINT)
        p.send_signal(signal.SIGTERM)
        p.send_signal(signal.SIGCONT)
        began = time.monotonic()
        p.communicate(timeout=10)
        assert time.monotonic() - began < 2
        assert p.returncode == 1
    finally:
        p.kill()


def test_stopping_is_said(silent):
    p = start(silent, "--io-timeout", "60s")
    try:
        time.sleep(0.5)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=15)
    finally:
        p.kill()
    assert "stopping: finishing what is in flight (again to leave at once)" in err
    assert p.returncode == 0
    assert SECRET not in out + err


def test_nobody_reads_the_output(silent):
    """A closed pipe does not end the move."""
    p = start(silent, "--output", "json", "--io-timeout", "60s")
    try:
        p.stdout.readline()
        p.stdout.close()
        time.sleep(2.5)
        assert p.poll() is None
        p.send_signal(signal.SIGTERM)
        err = p.stderr.read()
        assert p.wait(timeout=15) == 0
        assert "cannot write to standard output" in err
    finally:
        p.kill()
        p.stderr.close()
        p.wait()
