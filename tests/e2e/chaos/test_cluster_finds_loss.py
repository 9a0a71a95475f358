# SPDX-License-Identifier: BSD-3-Clause
# The suite between shapes itself: keyhaul passes it, and keyhaul that is spoilt in one way does not.
import os
import shutil

import pytest

from lib import mover
from lib.clusterchaos import NOT_YET, ClusterRound
from lib.faults import Fault

PAIR = "one to cluster3"
CALM = {"source": {"shape": "one", "persistence": "always", "replicas": 0},
        "target": {"shape": "cluster", "persistence": "everysec", "replicas": 1, "shards": 3,
                   "proxies": False},
        "spool_max": None, "small_disk": False, "at_once": False, "connections": 4, "rate": 1500,
        "tags": 40, "before": 2000, "expiry": "long", "foreign": True, "lossy": False,
        "end": "stopped, then finished"}
KILLS = [Fault("mover", "kill", 1.0, {"down": 0.5})] * 4
FAILOVER = [Fault("target", "failover", 0.5, {"shard": 1, "how": "takeover", "lose": 0.5,
                                              "gap": 0.0})]
RESHARD = [Fault("target", "reshard", 0.5, {"from": 0, "to": 1, "slots": 300, "how": "classic",
                                            "batch": 5, "back": True})]
BUSY_TIME = [Fault("mover", "stop", 2.0, {"for": 0.1})]


def play(monkeypatch, broken, *schedule):
    if broken:
        monkeypatch.setenv("BROKENMOVER_PROGRAM", mover.keyhaul_binary())
        monkeypatch.setenv("BROKENMOVER", broken)
        monkeypatch.setenv("KEYHAUL", os.path.join(mover.ROOT, "tests", "e2e", "lib",
                                                   "brokenmover.py"))
    r = ClusterRound(1, 6, PAIR, without=NOT_YET.get(PAIR, ()), **CALM)
    r.lanes = {lane: [f for f in schedule if f.lane == lane]
               for lane in ("mover", "source", "target")}
    try:
        return r.run()
    finally:
        shutil.rmtree(r.folder, ignore_errors=True)


def test_right(monkeypatch):
    play(monkeypatch, "", *KILLS, *FAILOVER, *RESHARD)


@pytest.mark.parametrize("broken,schedule,words", [
    ("drop", BUSY_TIME, "differences"),
    ("double", BUSY_TIME, "differences"),
    ("tear", BUSY_TIME, "accounts of"),
    ("forget", KILLS, "differences|accounts of|ended with status"),
    ("ahead", KILLS, "differences|accounts of|ended with status"),
    ("foreign", BUSY_TIME, "not the task's are gone"),
    ("again", KILLS, "snapshots, and the source never lost"),
    ("left", BUSY_TIME, "left on the target"),
], ids=lambda v: v if isinstance(v, str) and v.isalpha() and len(v) < 10 else "")
def test_broken(monkeypatch, broken, schedule, words):
    with pytest.raises(AssertionError) as e:
        play(monkeypatch, broken, *schedule)
    assert any(w in str(e.value) for w in words.split("|")), e.value
