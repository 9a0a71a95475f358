# SPDX-License-Identifier: BSD-3-Clause
# Fixtures of the chaos suite: sides behind proxies, tasks that are run again and again.
import os

import pytest

from lib.world import IO_TIMEOUT_S, Reader, Side, Task

IN_EVERY_RUN = ()  # of these files: test_named.py, test_rounds.py; the others run by make chaos...

if not os.environ.get("KEYHAUL_CHAOS"):
    collect_ignore = [f for f in os.listdir(os.path.dirname(os.path.abspath(__file__)))
                      if f.startswith("test_") and f not in IN_EVERY_RUN]


@pytest.fixture
def side(cleanup):
    """side(name, **options of Side): started."""
    things, folder = cleanup

    def make(name, **kw):
        s = Side("%s-%d" % (name, len(things)), folder, **kw)
        things.append(s)
        return s
    return make


@pytest.fixture
def task(cleanup):
    """task(source, target, *options): not started yet."""
    things, folder = cleanup

    def make(source, target, *options, **kw):
        t = Task(source.uri(), target.uri(), folder, "--io-timeout", "%ds" % IO_TIMEOUT_S,
                 "--connect-timeout", "2s", "--retry-time", "5m", *options, **kw)
        things.append(t)
        return t
    return make


@pytest.fixture
def reader(cleanup):
    """reader(side, look): asks without pause until the test ends."""
    def make(*args, **kw):
        r = Reader(*args, **kw)
        cleanup[0].append(r)
        r.start()
        return r
    return make
