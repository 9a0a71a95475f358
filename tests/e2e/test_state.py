# SPDX-License-Identifier: BSD-3-Clause
# The folder of a task, seen by who runs it: status, stop, finish, and what is refused.
import json
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from lib.compare import assert_equal
from lib.mover import keyhaul_binary
from lib.resp import wait_for
from lib.writer import Writer

PASSWORD = "s3cr3t-Pa55"


class Tasks:
    """One state dir and the commands about it."""

    def __init__(self, folder):
        self.dir = str(folder)

    def run(self, *args, env=None):
        full = {k: v for k, v in os.environ.items() if not k.startswith("KEYHAUL_")}
        return subprocess.run([keyhaul_binary(), *args, "--state-dir", self.dir], text=True,
                              capture_output=True, timeout=90, stdin=subprocess.DEVNULL,
                              env={**full, **(env or {})})

    def status(self, *args):
        r = self.run("status", *args)
        assert r.returncode == 0 and r.stderr == "", r
        return r.stdout

    def json(self):
        return {t["task"]: t for t in map(json.loads, self.status("--output", "json").splitlines())}

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def names(self):
        return sorted(os.listdir(self.dir)) if os.path.isdir(self.dir) else []

    def words(self):
        """Everything in all files."""
        found = b""
        for folder, _, files in os.walk(self.dir):
            for name in files:
                with open(os.path.join(folder, name), "rb") as f:
                    found += f.read()
        return found.decode(errors="replace")


@pytest.fixture
def tasks(tmp_path):
    return Tasks(tmp_path / "state")


@pytest.fixture
def streaming(keyhaul, source, target, tasks):
    """streaming(*options): `keyhaul migrate --task shop` that has caught up with some keys."""
    def begin(*options, **kw):
        if not source.call("DBSIZE"):
            source.call("MSET", *(x for i in range(500) for x in ("k%d" % i, i)))
        k = keyhaul(source, target, "--state-dir", tasks.dir, "--task", "shop", *options, **kw)
        k.wait_caught_up()
        return k
    return begin


def checkpoints(server):
    return sorted(server.call("KEYS", "keyhaul:checkpoint:*"))


# -- status --------------------------------------------------------------------------------------

def test_no_tasks(tasks):
    assert tasks.status() == "no tasks in %s\n" % tasks.dir
    assert tasks.status("--output", "json") == ""
    assert not os.path.exists(tasks.dir)
    r = tasks.run("status", "shop")
    assert r.returncode == 2 and "no task shop" in r.stderr and tasks.dir in r.stderr


def test_where_it_looks(tmp_path):
    def looked(**env):
        full = {k: v for k, v in os.environ.items() if k not in ("XDG_STATE_HOME", "HOME")}
        return subprocess.run([keyhaul_binary(), "status"], env={**full, **env}, text=True,
                              capture_output=True)
    assert looked(XDG_STATE_HOME="/x").stdout == "no tasks in /x/keyhaul\n"
    assert looked(HOME="/h").stdout == "no tasks in /h/.local/state/keyhaul\n"
    r = looked()
    assert r.returncode == 2 and "--state-dir" in r.stderr


def test_status_of_a_running_task(streaming, tasks, source, target):
    k = streaming()
    wait_for(lambda: tasks.json()["shop"]["phase"] == "stream")
    t = tasks.json()["shop"]
    assert t["running"] and t["pid"] == k.proc.pid and t["damaged"] is None
    assert t["source"] == source.uri() and t["target"] == target.uri()
    assert t["state"] == "stream" and t["outcome"] is None and t["error"] is None
    assert t["keys"] >= 500 and t["errors"] == 0 and t["lag_bytes"] >= 0
    assert abs(t["wall_ms"] / 1000 - time.time()) < 5
    table = tasks.status()
    assert max(map(len, table.splitlines())) <= 80
    row = table.splitlines()[1]
    assert re.match(r"shop +%d +stream +\S+ \S+ +50\d +0 +(now|\d+ s)$" % k.proc.pid, row), table
    full = tasks.status("shop")
    for words in (str(k.proc.pid), source.uri(), tasks.path("shop"), "stream"):
        assert words in full
    k.finish()
    t = tasks.json()["shop"]
    assert not t["running"] and t["pid"] is None and t["outcome"] == "stopped"
    assert re.search(r"^shop +no +stopped +- +50\d ", tasks.status(), re.M)


def test_status_after_a_kill_and_a_failure(streaming, tasks, target):
    k = streaming("--retry-time", "0s")
    k.proc.kill()
    k.wait()
    t = tasks.json()["shop"]
    assert not t["running"] and t["outcome"] is None and t["state"] == "stream"
    assert re.search(r"^shop +no +killed ", tasks.status(), re.M)
    assert re.search(r"^ended +killed$", tasks.status("shop"), re.M)
    target.stop()
    r = tasks.run("finish", "shop", "--retry-time", "0s", "--output", "json")
    assert r.returncode == 1, r
    t = tasks.json()["shop"]
    assert not t["running"] and t["outcome"] == "failed" and "target" in t["error"]
    table = tasks.status()
    assert re.search(r"^shop +no +failed ", table, re.M)
    assert "    target" in table and max(map(len, table.splitlines())) <= 80
    assert re.search(r"^ended +failed: target", tasks.status("shop"), re.M)


def test_status_tells_what_is_waited_for(streaming, tasks, source, target):
    k = streaming("--retry-time", "1h")
    assert tasks.json()["shop"]["waiting"] is None
    target.kill()
    wait_for(lambda: "refused" in (tasks.json()["shop"]["waiting_why"] or ""))
    t = tasks.json()["shop"]
    assert t["waiting"].startswith("target is lost") and 3500_000 < t["waiting_left_ms"] < 3600_000
    table = tasks.status()
    assert "    target is lost, called again; given up in 59 min" in table
    assert max(map(len, table.splitlines())) <= 80
    assert re.search(r"^waits +target is lost, called again; given up in 59 min", tasks.status("shop"),
                     re.M)
    target.restart()
    wait_for(lambda: tasks.json()["shop"]["waiting"] is None)
    assert "waits" not in tasks.status("shop")
    source.kill()
    wait_for(lambda: "refused" in (tasks.json()["shop"]["waiting_why"] or ""))
    assert tasks.json()["shop"]["waiting"].startswith("source is lost")
    k.proc.kill()
    k.wait()
    assert tasks.json()["shop"]["waiting"] is None
    # a run that finds a side gone from its start
    os.unlink(tasks.path("shop", "metrics.json"))
    again = subprocess.Popen(k.args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: "refused" in (tasks.json()["shop"]["waiting_why"] or ""))
        assert tasks.json()["shop"]["waiting"].startswith("source is lost")
    finally:
        again.kill()
        again.wait()


def test_status_counts_the_keys_of_all_runs(streaming, keyhaul, tasks, source, target):
    streaming().finish()
    keys = tasks.json()["shop"]["keys"]
    assert keys >= 500
    for _ in range(2):
        before = tasks.json()["shop"]["commands"]
        k = streaming()
        source.call("SET", "more", "1")
        k.wait_caught_up()
        k.finish()
        t = tasks.json()["shop"]
        assert t["keys"] == keys and t["commands"] > before
    # one that ends before it has moved anything forgets nothing
    source.kill()
    keyhaul(source, target, "--state-dir", tasks.dir, "--task", "shop", "--retry-time", "0s").expect(1)
    assert tasks.json()["shop"]["keys"] == keys
    source.restart()
    source.call("MSET", *(x for i in range(400) for x in ("k%d" % i, i)))
    # loaded again, keys are not counted twice
    keyhaul(source, target, "--state-dir", tasks.dir, "--task", "shop", "--restart").finish()
    assert 400 <= tasks.json()["shop"]["keys"] <= 402


def test_long_names_fit(tasks, keyhaul, source, target):
    """Names made of addresses are longer than their column, and IPv6 is no name."""
    k = keyhaul(source, target, "--state-dir", tasks.dir)
    wait_for(lambda: tasks.names() and tasks.json())
    (name,) = tasks.json()
    assert name == "127.0.0.1-%d-to-127.0.0.1-%d" % (source.port, target.port)
    lines = tasks.status().splitlines()
    assert lines[1] == name and max(map(len, lines)) <= 80 and len(lines) == 3
    assert k.terminate() == 0


DAMAGE = {
    "empty": lambda p: open(p, "w").close(),
    "cut": lambda p: os.truncate(p, os.path.getsize(p) // 2),
    "binary": lambda p: open(p, "wb").write(os.urandom(300)),
    "later": lambda p: open(p, "w").write('{"schema": 99}'),
    "controls": lambda p: open(p, "w").write('{"\x1b[2J\x07": 1}'),
    "gone": os.unlink,
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", ["state.json", "task.json"])
def test_damaged_folder(streaming, keyhaul, tasks, source, target, name, how):
    """Shown as such, hides no other, and is not gone on with; --restart begins anew."""
    k = streaming()
    k.finish()
    os.makedirs(tasks.path("other"))
    for f in ("state.json", "task.json"):
        with open(tasks.path("shop", f)) as src, open(tasks.path("other", f), "w") as dst:
            dst.write(src.read())
    DAMAGE[how](tasks.path("shop", name))
    found = tasks.json()
    assert sorted(found) == ["other", "shop"] and found["other"]["damaged"] is None
    assert name in found["shop"]["damaged"]
    table = tasks.status()
    assert "damaged: " in table and re.search(r"^other +no ", table, re.M)
    assert table.replace("\n", "").isprintable() and max(map(len, table.splitlines())) <= 80
    assert "damaged" in tasks.status("shop")
    r = tasks.run("finish", "shop")
    assert r.returncode == 1 and "shop" in r.stderr
    assert tasks.run("stop", "shop").returncode == 0
    k = keyhaul(source, target, "--state-dir", tasks.dir, "--task", "shop")
    k.expect(1, re.escape(name), "--restart")
    k = keyhaul(source, target, "--state-dir", tasks.dir, "--task", "shop", "--restart")
    k.finish()
    assert_equal(source, target)


# -- once, and the same ----------------------------------------------------------------------------

def test_runs_once_only(streaming, keyhaul, source, target, tasks):
    k = streaming()
    second = keyhaul(source, target, "--state-dir", tasks.dir, "--task", "shop")
    second.expect(3, "runs already, as process %d" % k.proc.pid, "keyhaul stop shop")
    again = keyhaul(source, target, "--state-dir", tasks.dir, "--task", "shop", "--restart",
                    "--output", "json")
    again.expect(3, '"code":"refused"')
    k.finish()
    assert_equal(source, target)


@pytest.mark.parametrize("options, words", [
    (("--db", "0,3"), "--db was all, now 0,3"),
    (("--db-map", "0:5,5:0"), "--db-map was not given, now 0:5,5:0"),
    (("--type", "full"), r"--type was full\+incremental, now full"),
    (("--on-conflict", "overwrite"), "--on-conflict was fail, now overwrite"),
])
def test_another_task_of_that_name(streaming, keyhaul, source, target, tasks, options, words):
    streaming().finish()
    k = keyhaul(source, target, "--state-dir", tasks.dir, "--task", "shop", *options)
    k.expect(3, words, "--task", "--restart")
    # what is no part of what it is may change
    k = keyhaul(source, target, "--state-dir", tasks.dir, "--task", "shop", "--io-timeout", "30s",
                "--on-error", "continue")
    k.finish()


def test_another_side(streaming, keyhaul, server, source, target, tasks):
    streaming().finish()
    third = server("third")
    k = keyhaul(third, target, "--state-dir", tasks.dir, "--task", "shop")
    k.expect(3, "--source was %s, now %s" % (source.uri(), third.uri()))
    # by their own names they do not meet
    k = keyhaul(source, third, "--state-dir", tasks.dir)
    k.finish()
    assert len(tasks.json()) == 2


def test_refused_before_anything_leaves_nothing(keyhaul, source, target, tasks):
    for s in (source, target):
        s.call("SET", "k", "v")
    k = keyhaul(source, target, "--state-dir", tasks.dir)
    k.expect(3, "exist")
    assert tasks.names() == []
    k = keyhaul(source, target, "--state-dir", tasks.dir, "--on-conflict", "overwrite", "--until",
                "caught-up")
    k.expect(0)
    assert tasks.names() == [] and checkpoints(target) == []


@pytest.mark.parametrize("options", [("--type", "full"), ("--until", "caught-up")])
def test_the_end_leaves_nothing(keyhaul, source, target, tasks, options):
    source.call("SET", "k", "v")
    keyhaul(source, target, "--state-dir", tasks.dir, *options).expect(0)
    assert tasks.names() == [] and checkpoints(target) == []
    assert_equal(source, target)


def test_private(streaming, tasks):
    k = streaming()
    for folder, _, files in os.walk(tasks.dir):
        assert os.stat(folder).st_mode & 0o777 == 0o700, folder
        for name in files:
            if not name.endswith(".tmp"):
                assert os.stat(os.path.join(folder, name)).st_mode & 0o777 == 0o600, name
    assert json.load(open(tasks.path("shop", "metrics.json")))["pid"] == k.proc.pid
    k.finish()


def test_unusable_state_dir(keyhaul, source, target, tmp_path):
    flat = tmp_path / "flat"
    flat.write_text("x")
    keyhaul(source, target, "--state-dir", str(flat)).expect(1, "--state-dir", "flat")
    keyhaul(source, target, "--state-dir", str(flat / "below")).expect(1, "--state-dir")
    keyhaul(source, target, "--task", "../x").expect(2, "--task")
    assert target.call("DBSIZE") == 0


# -- stop ------------------------------------------------------------------------------------------

def test_stop(streaming, tasks, source, target):
    k = streaming()
    r = tasks.run("stop", "shop")
    assert r.returncode == 0 and "shop has stopped" in r.stdout, r
    assert "expires keys by itself" in r.stdout and "expires keys by itself" in k.stderr
    assert k.wait(5) == 0
    r = tasks.run("stop", "shop")
    assert r.returncode == 0 and r.stdout == "shop does not run\n"
    r = tasks.run("stop", "nix")
    assert r.returncode == 2 and "shop" in r.stderr
    source.call("SET", "later", "1")
    k = streaming()
    k.wait_metric(lambda m: m["snapshots"] == 1)
    k.finish()
    assert_equal(source, target)


def test_stop_believes_no_file(streaming, tasks):
    """Whatever the lock's text says, only its holder is signalled."""
    k = streaming()
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        with open(tasks.path("shop", "lock"), "r+") as f:
            f.truncate(0)
            f.write("%d\n" % bystander.pid)
        assert tasks.json()["shop"]["pid"] == k.proc.pid
        assert tasks.run("stop", "shop").returncode == 0
        assert k.wait(5) == 0
        with open(tasks.path("shop", "lock"), "r+") as f:
            f.truncate(0)
            f.write("%d\n" % bystander.pid)
        assert tasks.run("stop", "shop").stdout == "shop does not run\n"
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_stop_gives_up_in_time(streaming, tasks):
    k = streaming()
    k.proc.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    r = tasks.run("stop", "shop", "--timeout", "1s")
    assert r.returncode == 1 and str(k.proc.pid) in r.stderr and "--timeout" in r.stderr
    assert time.monotonic() - start < 10
    assert tasks.json()["shop"]["running"]
    k.proc.send_signal(signal.SIGCONT)
    assert k.wait(10) == 0


# -- finish ----------------------------------------------------------------------------------------

def test_finish(streaming, tasks, source, target):
    """What was written since is applied; the checkpoint and the folder are gone."""
    streaming().finish()
    assert checkpoints(target) == [b"keyhaul:checkpoint:shop"]
    source.call("SET", "later", "1")
    r = tasks.run("finish", "shop")
    assert r.returncode == 0 and "caught up" in r.stdout, r
    assert "snapshot loaded" not in r.stderr
    assert checkpoints(target) == [] and tasks.names() == []
    assert_equal(source, target)
    r = tasks.run("finish", "shop")
    assert r.returncode == 2 and "no task" in r.stderr


def test_finish_a_running_task(streaming, tasks, source, target):
    k = streaming()
    with Writer(source, rate=2000) as w:
        time.sleep(1)
        w.stop()
        r = tasks.run("finish", "shop", "--output", "json")
    assert r.returncode == 0, r
    assert k.wait(5) == 0
    last = json.loads(r.stdout.splitlines()[-1])
    assert last["event"] == "summary" and last["outcome"] == "caught-up"
    assert last["keys"] >= 500 and last["lag_bytes"] == 0  # of the process that loaded them
    assert "asked to finish" in k.stderr and "caught up, lag 0" in k.stdout
    assert checkpoints(target) == [] and tasks.names() == []
    assert_equal(source, target)


def test_finish_under_writes_leaves_no_gap(streaming, tasks, source, target):
    """A key that the source renews all the time is never gone while one finishes."""
    k = streaming()
    done = threading.Event()
    missing, late = [], []

    def renew():
        with source.connect() as c:
            last = time.monotonic()
            while not done.is_set():
                c.call("SET", "session", "x", "PX", 400)
                now = time.monotonic()
                if now - last > 0.3:  # so it may have run out on the source as well
                    late.append(now)
                last = now
                time.sleep(0.05)

    def look():
        with target.connect() as c:
            while not done.is_set():
                if checkpoints(target) and c.call("EXISTS", "session") == 0 and checkpoints(target):
                    missing.append(time.monotonic())
                time.sleep(0.005)

    threads = [threading.Thread(target=f) for f in (renew, look)]
    threads[0].start()
    try:
        wait_for(lambda: target.call("EXISTS", "session"))
        threads[1].start()
        r = tasks.run("finish", "shop")
        assert r.returncode == 0, r
    finally:
        done.set()
        for t in threads:
            if t.ident:
                t.join()
    assert not missing or late
    assert "caught up, lag 0." in r.stdout and "has been asked to finish" in r.stderr
    assert k.wait(5) == 0 and tasks.names() == []


def test_finish_asks_each_process_anew(streaming, tasks, source, target):
    """A request that a killed process left is not for the next one."""
    k = streaming()
    k.proc.kill()
    k.wait()
    with open(tasks.path("shop", "finish"), "w"):
        pass
    k = streaming()
    time.sleep(1)
    assert k.status() is None and not os.path.exists(tasks.path("shop", "finish"))
    k.finish()


def test_finish_is_taken_back(streaming, tasks, source, target, proxy):
    """Ctrl-C while it waits: the task runs on as before."""
    slow = proxy(source)
    k = streaming(source_uri=slow.uri())
    slow.stall()
    ask = subprocess.Popen([keyhaul_binary(), "finish", "shop", "--state-dir", tasks.dir],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: os.path.exists(tasks.path("shop", "finish")))
        time.sleep(0.5)
        ask.send_signal(signal.SIGINT)
        out, err = ask.communicate(timeout=10)
    finally:
        ask.kill()
    assert ask.returncode != 0 and "not finished" in err and "runs on" in err, err
    assert not os.path.exists(tasks.path("shop", "finish"))
    slow.resume()
    source.call("SET", "later", "1")
    k.wait_caught_up()
    time.sleep(0.5)
    assert k.status() is None and checkpoints(target)
    k.finish()


def test_finish_of_a_process_that_hangs(streaming, tasks):
    k = streaming()
    k.proc.send_signal(signal.SIGSTOP)
    try:
        r = tasks.run("finish", "shop", "--timeout", "1s")
        assert r.returncode == 1 and str(k.proc.pid) in r.stderr and "--timeout" in r.stderr, r
        assert not os.path.exists(tasks.path("shop", "finish"))
    finally:
        k.proc.send_signal(signal.SIGCONT)
    assert k.terminate() == 0


@pytest.mark.parametrize("side", ["source", "target"])
def test_finish_without_a_side(streaming, tasks, source, target, side):
    """Who finishes does not wait for half a day, and is told what to do."""
    k = streaming()
    {"source": source, "target": target}[side].kill()
    start = time.monotonic()
    r = tasks.run("finish", "shop", "--retry-time", "1s")  # asks the process
    assert r.returncode == 1 and side + " is lost" in r.stderr and "refused" in r.stderr, r
    assert "finish it again" in r.stderr
    assert k.status() is None and not os.path.exists(tasks.path("shop", "finish"))
    k.proc.kill()
    k.wait()
    r = tasks.run("finish", "shop", "--retry-time", "1s")  # runs the task itself
    assert r.returncode == 1 and side in r.stderr and "finish it again" in r.stderr, r
    assert time.monotonic() - start < 20
    assert tasks.json()["shop"]["state"] == "stream"


def test_finish_waits_a_little(streaming, tasks, source, target, proxy):
    """A side that is back soon enough: no harm."""
    link = proxy(source)
    k = streaming(source_uri=link.uri())
    link.refuse = True
    link.cut()
    wait_for(lambda: tasks.json()["shop"]["waiting"])
    source.call("SET", "later", "1")
    ask = subprocess.Popen([keyhaul_binary(), "finish", "shop", "--state-dir", tasks.dir],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(1)
        assert ask.poll() is None
        link.refuse = False
        out, err = ask.communicate(timeout=20)
    finally:
        ask.kill()
    assert ask.returncode == 0 and "caught up, lag 0." in out, err
    assert k.wait(5) == 0 and tasks.names() == []
    assert_equal(source, target)


def test_finish_keeps_the_selection(keyhaul, source, target, tasks):
    for db in (0, 3):
        with source.connect(db) as c:
            c.call("SET", "k", db)
    k = keyhaul(source, target, "--state-dir", tasks.dir, "--task", "shop", "--db", "3", "--db-map",
                "3:1")
    k.finish(source_db=3, target_db=1)
    for db in (0, 3):
        with source.connect(db) as c:
            c.call("SET", "later", db)
    r = tasks.run("finish", "shop")
    assert r.returncode == 0, r
    with target.connect(1) as c:
        assert c.call("GET", "k") == b"3" and c.call("GET", "later") == b"3"
    assert target.call("DBSIZE") == 0


def test_finish_asks_for_passwords_again(keyhaul, server, target, tasks, tmp_path):
    source = server("locked", password=PASSWORD)
    source.call("SET", "k", "v")
    k = keyhaul(source, target, "--state-dir", tasks.dir, "--task", "shop", source_uri=source.uri(password=PASSWORD))
    k.wait_caught_up()
    assert PASSWORD not in tasks.words()
    assert k.terminate() == 0
    assert PASSWORD not in tasks.words()
    r = tasks.run("finish", "shop")
    assert r.returncode == 2 and "--source-password-file" in r.stderr, r
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    r = tasks.run("finish", "shop", "--source-password-file", str(secret))
    assert r.returncode == 0, r
    assert tasks.names() == []


def test_finish_not_while_loading(keyhaul, source, target, tasks, proxy):
    """A snapshot that is broken off had to be taken again."""
    source.call("MSET", *(x for i in range(20000) for x in ("k%d" % i, "v" * 500)))
    slow = proxy(source)
    slow.bytes_per_s = 1_000_000
    k = keyhaul(source, target, "--state-dir", tasks.dir, "--task", "shop", source_uri=slow.uri())
    wait_for(lambda: tasks.names() and tasks.json().get("shop", {}).get("state") == "loading")
    r = tasks.run("finish", "shop")
    assert r.returncode == 3 and "snapshot" in r.stderr and k.status() is None
    assert k.terminate() == 0
    assert tasks.json()["shop"]["state"] == "loading"


def test_nothing_to_finish(keyhaul, source, target, tasks, proxy):
    """A run that was killed before it wrote anything leaves a folder, which counts for nothing."""
    silent = proxy(target)
    silent.stall()
    k = keyhaul(source, target, "--state-dir", tasks.dir, "--task", "shop", target_uri=silent.uri())
    wait_for(lambda: tasks.names() and tasks.json())
    k.proc.kill()
    k.wait()
    assert tasks.json()["shop"]["state"] == "new"
    r = tasks.run("finish", "shop")
    assert r.returncode == 3 and "moved nothing" in r.stderr, r
    assert tasks.names() == []


# -- without ---------------------------------------------------------------------------------------

def log_files(k):
    return [f for _, _, files in os.walk(os.path.join(k.dir, "spool")) for f in files]


def sets(server):
    return int(re.search(r"calls=(\d+)", server.connect().info("commandstats")["cmdstat_set"])[1])


def test_no_resume(streaming, tasks, source, target, keyhaul):
    """Neither the target nor the disk is told how far the stream is: it is copied again."""
    k = streaming("--resume", "no")
    told = {c: target.call("GET", c) for c in checkpoints(target)}
    assert all(b"loading" in v for v in told.values()), told
    before = sets(target)
    for i in range(50):
        source.call("INCR", "visits")
        source.call("RPUSH", "list", i)
    k.wait_caught_up()
    assert {c: target.call("GET", c) for c in checkpoints(target)} == told
    assert log_files(k) == []
    assert sets(target) - before == 1  # what wait_caught_up sets
    k.proc.send_signal(signal.SIGKILL)
    k.wait()
    source.call("INCR", "visits")
    source.call("DEL", "k7")
    k = keyhaul(source, target, "--state-dir", tasks.dir, "--task", "shop", "--resume", "no",
                "--until", "caught-up")
    k.expect(0, "caught up, lag 0")
    assert target.call("GET", "visits") == b"51" and target.call("LLEN", "list") == 50
    assert checkpoints(target) == [] and tasks.names() == []
    assert_equal(source, target)


def test_resume_is_not_thrown_away(streaming, tasks, source, target, keyhaul):
    k = streaming()
    k.finish()
    source.call("INCR", "visits")
    told = checkpoints(target)
    assert len(told) == 1 and log_files(k) != []
    again = ("--state-dir", tasks.dir, "--task", "shop", "--resume", "no")
    keyhaul(source, target, *again).expect(3, "leave out --resume no", "--restart")
    assert target.call("GET", "visits") is None
    assert checkpoints(target) == told
    keyhaul(source, target, *again, "--restart").finish()
    assert_equal(source, target)
    # and back: it has to be copied once more, then it can be gone on with
    k = streaming()
    k.wait_metric(lambda m: m["snapshots"] == 3)
    k.finish()
    assert any(b" stream " in target.call("GET", c) for c in checkpoints(target))


def test_no_resume_of_changes_alone(source, target, keyhaul):
    keyhaul(source, target, "--resume", "no", "--type", "incremental").expect(2, "--resume no")


def test_name_that_another_source_has(keyhaul, server, source, target, tmp_path):
    """As by "localhost" on two machines. Refused before the one that runs is disturbed."""
    other = server("other")
    other.call("SET", "k", "of the other")
    source.call("SET", "k", "of the source")
    k = keyhaul(source, target, "--task", "shop", "--state-dir", tmp_path / "a")
    k.wait_caught_up()
    second = "--task", "shop", "--state-dir", tmp_path / "b"
    keyhaul(other, target, *second, "--on-conflict", "overwrite").expect(3, "another source")
    keyhaul(other, target, *second, "--resume", "no").expect(3, "another source")
    k.wait_caught_up()
    assert target.call("GET", "k") == b"of the source"
    assert k.metrics()["links_lost"] == 0 and not os.path.exists(tmp_path / "b" / "shop")
    again = keyhaul(other, target, *second, "--on-conflict", "overwrite", "--restart", "--until",
                    "caught-up")
    assert again.wait() == 0, again.said
    k.expect(3, "another process", timeout=20)
    assert target.call("GET", "k") == b"of the other"
