# SPDX-License-Identifier: BSD-3-Clause
# Valkey's import mode (8.1+): on while a task runs, off when it has ended; nothing expires on the
# target meanwhile, however long it stands still.
import signal
import time

import pytest

from lib.compare import assert_equal
from lib.resp import wait_for
from lib.server import find_servers

NAMES = [n for n in find_servers() if n in ("valkey-8.1", "valkey-9.1")]


@pytest.fixture(params=NAMES or [pytest.param(None, marks=pytest.mark.skip("no Valkey 8.1+ here"))])
def valkey(request, servers, server):
    return server("valkey", binary=servers[request.param])


def mode(target):
    return target.call("CONFIG", "GET", "import-mode")[1]


def test_on_while_it_runs(source, valkey, keyhaul):
    with source.connect() as c:
        c.feed(("SET", "k:%d" % i, "v", "PX", 60_000 + i) for i in range(1000))
        k = keyhaul(source, valkey)
        k.wait_caught_up()
        assert mode(valkey) == b"yes"
        assert valkey.call("PEXPIRETIME", "k:7") == c.call("PEXPIRETIME", "k:7")  # never held
        c.call("SET", "short", "v", "PX", 100)
        c.call("SET", "renewed", 1, "PX", 600)
        wait_for(lambda: valkey.call("EXISTS", "renewed"))
        valkey.pause()
        try:
            c.call("INCR", "renewed")
            c.call("PERSIST", "renewed")
            time.sleep(1)
        finally:
            valkey.cont()
    k.finish()
    assert mode(valkey) == b"no"
    assert_equal(source, valkey)
    assert valkey.call("GET", "renewed") == b"2"


def test_off_when_caught_up(source, valkey, keyhaul):
    keyhaul(source, valkey, "--until", "caught-up").expect(0)
    assert mode(valkey) == b"no"


def test_off_when_stopped_in_the_load(source, valkey, keyhaul, proxy):
    p = proxy(valkey)
    p.bytes_per_s = 100_000
    with source.connect() as c:
        c.feed(("SET", "k:%d" % i, "x" * 100) for i in range(20_000))
    k = keyhaul(source, valkey, target_uri=p.uri())
    k.wait_metric(lambda m: m["keys_written"] > 0)
    p.bytes_per_s = 0
    assert k.terminate() == 0, k.said
    assert mode(valkey) == b"no"


def test_left_as_it_was(source, valkey, keyhaul):
    valkey.call("CONFIG", "SET", "import-mode", "yes")
    k = keyhaul(source, valkey)
    k.wait_caught_up()
    k.finish()
    assert mode(valkey) == b"yes"


def test_killed_and_run_again(source, valkey, keyhaul, tmp_path):
    """The next run knows that it was a run of the task that had turned it on."""
    k = keyhaul(source, valkey, "--task", "again", "--state-dir", tmp_path)
    k.wait_caught_up()
    k.terminate(sig=signal.SIGKILL)
    assert mode(valkey) == b"yes"
    with source.connect() as c:
        c.call("SET", "after", 1)
    k = keyhaul(source, valkey, "--task", "again", "--state-dir", tmp_path)
    k.wait_caught_up()
    k.finish()
    assert mode(valkey) == b"no"
    assert_equal(source, valkey)


def test_gone_before_a_repeated_snapshot(source, valkey, keyhaul, tmp_path):
    """What is past its deadline is shown to nobody but who imports; it is to be deleted all the
    same, or what the source makes of the key anew is added to it."""
    k = keyhaul(source, valkey, "--task", "again", "--state-dir", tmp_path)
    with source.connect() as c:
        c.call("SET", "dies", "old", "PX", 1500)
        c.call("SET", "stays", 1)
        k.wait_caught_up()
        k.terminate(sig=signal.SIGKILL)
        wait_for(lambda: not c.call("EXISTS", "dies"))
        c.call("DEBUG", "CHANGE-REPL-ID")
        k = keyhaul(source, valkey, "--task", "again", "--state-dir", tmp_path)
        k.wait_caught_up()
        c.call("APPEND", "dies", "new")
        k.wait_caught_up()
    assert "everything is copied again" in k.stderr
    k.finish()
    assert_equal(source, valkey)
    assert valkey.call("GET", "dies") == b"new"


def test_not_permitted(source, valkey, keyhaul):
    """Then deadlines are held; it is said once, and all goes well."""
    valkey.call("ACL", "SETUSER", "default", "-config|set", "-client|import-source")
    with source.connect() as c:
        k = keyhaul(source, valkey)
        k.wait_caught_up()
        valkey.pause()
        try:
            c.call("SET", "first", 1)
            time.sleep(0.2)
            c.call("SET", "renewed", 1, "PX", 500)
            c.call("PERSIST", "renewed")
            time.sleep(1)
        finally:
            valkey.cont()
    k.finish()
    assert k.stderr.count("import mode is not to be had") == 1
    assert_equal(source, valkey)
    assert valkey.call("GET", "renewed") == b"1"
