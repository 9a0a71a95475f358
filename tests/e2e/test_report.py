# SPDX-License-Identifier: BSD-3-Clause
# What keyhaul tells while it works: progress, JSON lines, metrics file, summary.
import json
import threading
import time

from lib.compare import assert_equal
from lib.dataset import Sizes, fill
from lib.mover import offset_of
from lib.writer import Writer


def test_json_lines(source, target, keyhaul):
    fill(source, Sizes(small_keys=2000), dbs=[0, 1])
    k = keyhaul(source, target, "--output", "json", "--log-level", "debug")
    k.wait_caught_up()
    time.sleep(1)
    k.finish()
    lines = k.stdout.splitlines()
    assert lines
    for line in lines + k.stderr.splitlines():
        assert isinstance(json.loads(line), dict), line


def test_json_error(source, keyhaul):
    k = keyhaul(source, source, "--output", "json").expect(3)
    text = [json.loads(line) for line in k.stdout.splitlines()]
    assert "same server" in json.dumps(text)


def test_metrics_file_is_whole_at_any_time(source, target, keyhaul):
    fill(source, Sizes(small_keys=20_000), dbs=range(4))
    bad, seen, stop = [], [], threading.Event()
    with Writer(source, rate=5000, dbs=range(4), flush=(), swap=()) as w:
        k = keyhaul(source, target)

        def watch():
            while not stop.is_set():
                try:
                    m = k.metrics()
                    if m and (not seen or seen[-1]["wall_ms"] != m["wall_ms"]):
                        seen.append(m)
                except ValueError as e:
                    bad.append(e)
                time.sleep(0.001)
        thread = threading.Thread(target=watch)
        thread.start()
        k.wait_caught_up()
        time.sleep(2.5)
        w.stop()
        k.finish()
        stop.set()
        thread.join()
    assert not bad, bad
    assert len(seen) >= 3
    for a, b in zip(seen, seen[1:]):
        for name in ("keys_read", "keys_written", "commands_written", "bytes_read", "wall_ms"):
            assert a[name] <= b[name], name
        assert a["keys_written"] <= a["keys_read"]
        assert a["applied_offset"] <= a["received_offset"] or a["received_offset"] == 0
    last = k.metrics()
    assert last["phase"] == "done" and last["exit_status"] == 0 and last["lag_bytes"] == 0
    assert {d["db"] for d in last["databases"]} >= {0, 1, 2, 3}
    assert sum(d["keys"] for d in last["databases"]) == last["keys_written"]
    assert_equal(source, target)


def test_offsets_meet_the_source(source, target, keyhaul):
    k = keyhaul(source, target)
    k.wait_caught_up()
    at = offset_of(source)
    m = k.wait_metric(lambda m: m["applied_offset"] >= at and m["lag_bytes"] == 0)
    assert k.metrics()["applied_offset"] <= offset_of(source)
    assert m
    k.finish()


def test_progress_without_a_terminal(source, target, keyhaul):
    fill(source, Sizes(small_keys=500), dbs=[0, 1])
    k = keyhaul(source, target)
    k.wait_caught_up()
    time.sleep(5.5)
    k.finish()
    text = k.said
    assert "\033" not in text and "\r" not in text.replace("\r\n", "\n")
    assert len(text.splitlines()) >= 3


def test_summary_names_databases(source, target, keyhaul):
    fill(source, Sizes(small_keys=300), dbs=[0, 7])
    k = keyhaul(source, target, "--until", "caught-up").expect(0)
    with source.connect(7) as c:
        n = c.call("DBSIZE")
    row = [x for x in k.stdout.splitlines() if x.split()[:1] == ["7"] or "db7" in x or "db 7" in x]
    assert row and str(n) in row[-1].replace(",", ""), k.stdout


def test_quiet(source, target, keyhaul):
    fill(source, Sizes(small_keys=100), dbs=[0])
    k = keyhaul(source, target, "--quiet", "--until", "caught-up").expect(0)
    assert k.stdout == ""


def test_log_file(source, target, keyhaul, tmp_path):
    log = tmp_path / "log"
    keyhaul(source, target, "--until", "caught-up", "--log-file", log, "--log-level",
            "debug").expect(0)
    assert log.read_text().strip()


def test_metrics_of_a_failure(source, keyhaul):
    k = keyhaul(source, source).expect(3)
    m = k.metrics()
    assert not m or (m["exit_status"] == 3 and m["error"])
