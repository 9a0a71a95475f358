# SPDX-License-Identifier: BSD-3-Clause
# The suite itself: a mover that is right passes, and one that is broken in one way does not.
import os
import shutil

import pytest

from lib import mover
from lib.chaos import Round
from lib.faults import Fault

LIB = os.path.join(mover.ROOT, "tests", "e2e", "lib")
CALM = {"source": {"persistence": "always", "replica": False},
        "target": {"persistence": "always", "replica": True},
        "backlog": "64mb", "spool_max": None, "small_disk": False, "at_once": False,
        "connections": 5, "rate": 3000, "before": 2000, "expiry": "long", "foreign": True}
LATE = Fault("target", "late", 0.5, {"ways": ("up",), "for": 3.0})
KILLS = [Fault("mover", "kill", 0.7, {"down": 0.1})] * 5
BACKLOG = [Fault("source", "backlog", 0.5, {"down": 1.5})]
FAILOVER = [Fault("target", "failover", 1.0, {"lose": 0.8, "gap": 0.1})]
CUT = [Fault("target", "cut", 0.5, {"reset": True, "down": 0.2})]
STALLS = [Fault("target", "stall", 0.5, {"ways": ("up",), "for": 1.5})] * 2
BUSY_TIME = [Fault("mover", "stop", 2.0, {"for": 0.1})]


def play(monkeypatch, program, broken, *schedule, **fixed):
    monkeypatch.setenv("KEYHAUL", os.path.join(LIB, program))
    monkeypatch.setenv("PLAINMOVER_BREAK", broken)
    r = Round(1, 6, **{**CALM, **fixed})
    r.lanes = {lane: [f for f in schedule if f.lane == lane]
               for lane in ("mover", "source", "target")}
    try:
        return r.run()
    finally:
        shutil.rmtree(r.folder, ignore_errors=True)


ALL = [*KILLS, *BACKLOG, *FAILOVER, LATE, *CUT]


def test_right(monkeypatch):
    play(monkeypatch, "plainmover.py", "", *ALL)


def test_servers_own_replication(monkeypatch):
    """Short deadlines as well."""
    play(monkeypatch, "nativemover.py", "", *KILLS, *STALLS, *FAILOVER, *CUT, *BACKLOG,
         expiry="short", foreign=False)


@pytest.mark.parametrize("broken,schedule,words", [
    ("drop", BUSY_TIME, "differences|accounts sum up"),
    ("double", BUSY_TIME, "differences"),
    ("late", BUSY_TIME, "expires at"),
    ("split", BUSY_TIME, "accounts sum up"),
    ("loose", KILLS, "differences|accounts sum up"),
    ("early", KILLS + CUT, "differences|accounts sum up"),
    ("nofence", [LATE, LATE], "differences|accounts sum up"),
    ("memory", FAILOVER, "differences|accounts sum up"),
    ("nosweep", BACKLOG, "not on the source, but on the target"),
    ("sweepall", BACKLOG, "not the task's are gone"),
    ("overflow", CUT, "snapshots, and the source never lost"),
    ("again", KILLS, "snapshots, and the source never lost"),
], ids=lambda v: v if isinstance(v, str) and v.isalpha() and len(v) < 10 else "")
def test_broken(monkeypatch, broken, schedule, words):
    with pytest.raises(AssertionError) as e:
        play(monkeypatch, "plainmover.py", broken, *schedule)
    assert any(w in str(e.value) for w in words.split("|")), e.value


def test_early_deaths(monkeypatch):
    """A mover that lets keys die by the target's clock."""
    with pytest.raises(AssertionError) as e:
        play(monkeypatch, "plainmover.py", "", *STALLS, expiry="short")
    assert "differences" in str(e.value)


def test_failover_loses_no_more_than_asked(side):
    """Also in the first second, when the primary has a replica, but sends it nothing yet."""
    for _ in range(3):
        s = side("side", replica=True)
        with s.primary.connect() as c:
            c.feed(("SET", "k:%d" % i, i) for i in range(1000))
        assert s.fail_over()
        assert s.call("DBSIZE") == 1000
