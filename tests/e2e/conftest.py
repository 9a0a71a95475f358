# SPDX-License-Identifier: BSD-3-Clause
# Fixtures: servers and keyhaul runs that never outlive a test; their logs stay when it fails.
import os
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

from lib.fakeprimary import FakePrimary  # noqa: E402
from lib.faultproxy import FaultProxy  # noqa: E402
from lib.mover import Keyhaul, Restore, keyhaul_binary, mover  # noqa: E402
from lib.server import Server, find_servers, make_certificates  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--heavy", action="store_true", default=bool(os.environ.get("KEYHAUL_HEAVY")),
                     help="large sizes as well (also: KEYHAUL_HEAVY=1)")


def pytest_configure(config):
    # whatever a test starts, in whatever way, leaves the user's own tasks alone
    config.state_home = tempfile.mkdtemp(prefix="kh-state-")
    os.environ["XDG_STATE_HOME"] = config.state_home
    config.addinivalue_line("markers", "heavy: large sizes, run with --heavy")
    config.addinivalue_line("markers", "native: can run with KEYHAUL_MOVER=native")


def pytest_unconfigure(config):
    shutil.rmtree(config.state_home, ignore_errors=True)


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "heavy" in item.keywords and not config.getoption("--heavy"):
            item.add_marker(pytest.mark.skip(reason="needs --heavy"))
        if os.environ.get("KEYHAUL_MOVER") == "native" and "native" not in item.keywords:
            item.add_marker(pytest.mark.skip(reason="not for native replication"))


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    setattr(item, "report_" + call.when, outcome.get_result())


@pytest.fixture
def cleanup(request):
    """Things to stop, in reverse order; their folder of logs is kept and named after a failure."""
    things = []
    folder = tempfile.mkdtemp(prefix="kh-e2e-")
    cleanup.folder = folder
    yield things, folder
    failed = getattr(getattr(request.node, "report_call", None), "failed", True)
    for t in reversed(things):
        try:
            (getattr(t, "close", None) or t.stop)()
        except Exception as e:  # the rest must still be stopped
            print("while stopping %r: %s" % (t, e))
    if failed:
        print("logs of this test: " + folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def server(cleanup):
    """server(name, **options of Server): a running server."""
    things, folder = cleanup

    def make(name="server", **kw):
        s = Server(name="%s-%d" % (name, len(things)), keep_log=folder, **kw)
        things.append(s)
        return s.start()
    return make


@pytest.fixture
def shape(cleanup):
    """shape(Cluster(...)), or any other Shape: started."""
    def start(s):
        for n in s.nodes:
            n.keep_log = cleanup[1]
        cleanup[0].append(s)
        return s.start()
    return start


@pytest.fixture
def source(server):
    return server("source")


@pytest.fixture
def target(server):
    return server("target")


@pytest.fixture
def keyhaul(cleanup):
    """keyhaul(source, target, *options): a running `keyhaul migrate`."""
    things, folder = cleanup
    if not os.path.exists(keyhaul_binary()):
        pytest.fail("no %s: run make, or set KEYHAUL" % keyhaul_binary())

    def run(source, target, *options, **kw):
        k = Keyhaul(source, target, *options, folder=tempfile.mkdtemp(dir=folder), **kw)
        things.append(k)
        return k
    return run


@pytest.fixture
def restore(cleanup):
    """restore(path, target, *options): a running `keyhaul restore`."""
    things, folder = cleanup

    def run(path, target, *options, **kw):
        k = Restore(path, target, *options, folder=tempfile.mkdtemp(dir=folder), **kw)
        things.append(k)
        return k
    return run


@pytest.fixture
def fake(server, cleanup):
    """fake(rdb=bytes, ...): a primary whose snapshot and stream are made by the test."""
    def make(**kw):
        f = FakePrimary(server("behind"), **kw)
        cleanup[0].append(f)
        return f
    return make


@pytest.fixture
def move(cleanup):
    """As keyhaul, or native replication where $KEYHAUL_MOVER says so."""
    things, folder = cleanup

    def run(source, target, *options, **kw):
        m = mover()(source, target, *options, folder=tempfile.mkdtemp(dir=folder), **kw)
        things.append(m)
        return m
    return run


@pytest.fixture
def proxy(cleanup):
    things, _ = cleanup

    def make(server):
        p = FaultProxy(server.address)
        things.append(p)
        return p
    return make


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return make_certificates(str(tmp_path_factory.mktemp("tls")))


@pytest.fixture(scope="session")
def servers():
    return find_servers()


@pytest.fixture(scope="module")
def running():
    """running(name): that server, one for all tests of a file, emptied."""
    found, up = find_servers(), {}

    def get(name="default"):
        if name not in found:
            pytest.skip("no server %s here (KEYHAUL_SERVERS)" % name)
        if name not in up:
            up[name] = Server(binary=found[name], name="running").start()
        with up[name].connect() as c:
            c.call("FLUSHALL")
            if up[name].version >= (7, 0, 0):
                c.call("FUNCTION", "FLUSH")
        return up[name]
    yield get
    for s in up.values():
        s.stop()
