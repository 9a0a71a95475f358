# SPDX-License-Identifier: BSD-3-Clause
# Sides by their Sentinels: found, found again after failovers while an application writes, with
# passwords, behind other addresses; and a replica read in the place of its primary.
import os
import socket
import tempfile
import time

import pytest

from lib.cluster import Cluster
from lib.clustercompare import assert_equal
from lib.clusterload import CONSUMERS
from lib.clustermove import fill, wait_caught_up
from lib.clusterwriter import ClusterWriter
from lib.faultproxy import FaultProxy
from lib.mover import Keyhaul
from lib.resp import wait_for
from lib.shape import SentinelSet, Single
from lib.world import Task


@pytest.fixture
def sentinel_set(cleanup):
    """sentinel_set(name, **options of SentinelSet): started."""
    things, folder = cleanup

    def make(name, **kw):
        s = SentinelSet(name=name, down_ms=700, keep_log=folder, **kw)
        things.append(s)
        return s.start()
    return make


@pytest.fixture
def single(cleanup):
    def make(name="one", **kw):
        s = Single(name=name, **kw)
        cleanup[0].append(s)
        return s.start()
    return make


@pytest.fixture
def task(cleanup):
    """task(source, target, *options): the same command as often as it is started."""
    things, folder = cleanup

    def make(source, target, *options, source_uri=None, target_uri=None, **kw):
        t = Task(source_uri or source.uri(), target_uri or target.uri(), folder, "--io-timeout",
                 "10s", "--connect-timeout", "2s", "--retry-time", "5m", *options, **kw)
        things.append(t)
        return t
    return make


def caught_up(source, target, t, timeout=60):
    wait_caught_up(source, target, timeout=timeout, alive=t.check)


def play(source, target, t, w, *faults):
    """One fault after the other while the application writes; equal at the end."""
    caught_up(source, target, t)
    for fault in faults:
        fault()
        time.sleep(0.8)
        t.check()
    counts = w.stop()
    caught_up(source, target, t)
    assert counts["commands"] > 2000
    assert_equal(source, target, unsent=CONSUMERS)
    assert t.terminate() == 0, t.run.said
    assert_equal(source, target, unsent=CONSUMERS)
    assert t.metric("errors") == 0


# -- failovers -------------------------------------------------------------------------------------
# SENTINEL FAILOVER ("manual") promotes first, and tells the old primary later: what that takes
# meanwhile is lost. So is what kill -9 takes from a primary that its replicas lag behind.
def test_both_sides_fail_over(sentinel_set, task):
    """Nothing is on the target but what is left on the source, and all of that."""
    source, target = sentinel_set("source"), sentinel_set("target")
    fill(source)
    t = task(source, target)
    with ClusterWriter(source, seed=3, cross=0.3) as w:
        t.start()
        play(source, target, t, w,
             lambda: target.fail_over("manual"),
             lambda: source.fail_over("manual"),
             lambda: target.fail_over("kill9", lose_s=0.4),
             lambda: source.fail_over("kill9", lose_s=0.3),
             lambda: target.fail_over("kill9", lose_s=0.2, gap_s=0.5))
        assert w.problems(target) == w.problems(source)


def test_target_fails_over(sentinel_set, single, task):
    """The source loses nothing, so the target does not either."""
    source, target = single(), sentinel_set("target", replicas=2)
    fill(source)
    t = task(source, target)
    with ClusterWriter(source, seed=4, cross=0.3) as w:
        t.start()
        play(source, target, t, w,
             lambda: target.fail_over("kill9", lose_s=0.3),
             lambda: target.fail_over("manual"),
             lambda: target.fail_over("kill9"))
        assert w.problems(source) == []
        assert w.problems(target) == []
    assert t.metric("snapshots") == 1


def test_source_fails_over_at_rest(sentinel_set, single, task):
    """The new primary has the history that was followed: no other snapshot."""
    source, target = sentinel_set("source"), single()
    fill(source)
    t = task(source, target)

    def at_rest():
        w.pause()
        caught_up(source, target, t)
        source.fail_over("kill9")
        w.resume()
    with ClusterWriter(source, seed=5, cross=0.3) as w:
        t.start()
        play(source, target, t, w, at_rest, at_rest)
        assert w.problems(target) == []
    assert t.metric("snapshots") == 1


def test_failovers_between_two_runs(sentinel_set, task):
    """The task goes on at the primaries of now, whoever they were."""
    source, target = sentinel_set("source"), sentinel_set("target")
    fill(source)
    t = task(source, target)
    t.start()

    def unseen(side, **kw):
        t.kill()
        side.fail_over(**kw)
        t.start()
    with ClusterWriter(source, seed=6, cross=0.3) as w:
        play(source, target, t, w,
             lambda: unseen(target, how="manual"),
             lambda: unseen(source, how="manual"),
             lambda: unseen(target, how="kill9", lose_s=0.3))
        assert w.problems(target) == w.problems(source)


def test_sentinels_of_the_target_keep_to_it(sentinel_set, task):
    """Both sides go by one name, and Sentinels tell each other of it by PUBLISH."""
    source, target = sentinel_set("source"), sentinel_set("target")
    t = task(source, target)
    t.start()
    caught_up(source, target, t)
    time.sleep(5)  # each publishes every two seconds
    for side in source, target:
        for s in side.sentinels:
            assert s.facts()["num-other-sentinels"] == "2"
            assert int(s.facts()["port"]) == side.nodes[0].port
    assert t.terminate() == 0


def test_failover_in_the_snapshot(sentinel_set, task):
    """Each side, while the snapshot is loaded."""
    source, target = sentinel_set("source"), sentinel_set("target")
    fill(source)
    with source.router() as r:
        r.feed(("SET", "much:%d" % i, os.urandom(300).hex()) for i in range(60_000))
    for side in target, source:
        target.everywhere("FLUSHALL")
        target.everywhere("FUNCTION", "FLUSH")
        t = task(source, target, name=side.nodes[0].name)
        with ClusterWriter(source, seed=6, rate=1000) as w:
            t.start()
            wait_for(lambda: (t.metric("keys_written") or 0) > 2000 or t.check(), 30, every=0.005)
            play(source, target, t, w, lambda: side.fail_over("kill9"))


@pytest.fixture
def silent():
    """A port that takes connections and says nothing."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(100)
        yield s.getsockname()[1]


def test_sentinels_that_say_nothing(sentinel_set, task, silent):
    """One is not there, one takes the connection and is silent: the third one tells."""
    source, target = sentinel_set("source", sentinels=1), sentinel_set("target", sentinels=1)

    def uri(side):
        return side.uri().replace("//", "//127.0.0.1:1,127.0.0.1:%d," % silent)
    t = task(source, target, source_uri=uri(source), target_uri=uri(target))
    with ClusterWriter(source, seed=7, rate=1000) as w:
        t.start()
        play(source, target, t, w, lambda: target.fail_over("manual"),
             lambda: source.fail_over("manual"))


# -- access ----------------------------------------------------------------------------------------
@pytest.fixture
def run(cleanup):
    """run(source, target, *options): a keyhaul that ends when it is caught up."""
    things, folder = cleanup

    def go(source, target, *options, **kw):
        k = Keyhaul(source, target, *options, folder=tempfile.mkdtemp(dir=folder), **kw)
        things.append(k)
        return k
    return go


@pytest.mark.parametrize("way", ["query", "file", "environment", "as the servers"])
def test_passwords_of_sentinels(sentinel_set, single, run, way):
    secret = "of-the-servers" if way == "as the servers" else "hidden-of-sentinels"
    source = sentinel_set("source", password="of-the-servers", sentinel_password=secret)
    target = single()
    fill(source)
    options, env, query = ["--until", "caught-up"], {}, ""
    if way == "query":
        query = "?sentinel-password=" + secret
    if way == "file":
        path = os.path.join(source.nodes[0].dir, "password")
        with open(path, "w") as f:
            f.write(secret + "\n")
        options += ["--sentinel-password-file", path]
    if way == "environment":
        env["KEYHAUL_SENTINEL_PASSWORD"] = secret
    k = run(source, target, *options, source_uri=source.uri() + query, env=env)
    assert k.wait() == 0, k.said
    assert_equal(source, target)
    for folder, _, names in os.walk(k.dir):
        for name in names:
            with open(os.path.join(folder, name), "rb") as f:
                assert b"hidden-of" not in f.read(), name


@pytest.mark.parametrize("query", ["", "?sentinel-password=wrong"])
def test_wrong_password_of_sentinels(sentinel_set, single, run, query):
    source = sentinel_set("source", sentinel_password="hidden", sentinels=1)
    k = run(source, single(), source_uri=source.uri() + query)
    assert k.wait() == 1
    assert "Sentinel" in k.said and "--sentinel-password-file" in k.said, k.said


def test_not_ps_nor_the_task_tell_passwords(sentinel_set, single, run):
    source = sentinel_set("source", password="of-the-servers", sentinel_password="hidden")
    target = single()
    k = run(source, target, "--task", "it",
            source_uri=source.uri() + "?sentinel-password=hidden")
    wait_caught_up(source, target, alive=k.alive)
    with open("/proc/%d/cmdline" % k.proc.pid) as f:
        shown = f.read()
    assert "/mine?sentinel-password=***" in shown
    assert "hidden" not in shown and "of-the-servers" not in shown
    assert k.terminate() == 0
    assert "hidden" not in k.said


def test_wrong_names(sentinel_set, single, run):
    target = single()
    source = sentinel_set("source", sentinels=1)
    port = source.sentinels[0].port
    k = run(source, target, source_uri="redis+sentinel://127.0.0.1:%d/other" % port)
    assert k.wait() == 3 and "knows no server of the name 'other'" in k.said
    k = run(source, target, source_uri="redis://127.0.0.1:%d" % port)
    assert k.wait() == 3 and "redis+sentinel://host:port/NAME" in k.said
    k = run(source, target, source_uri="redis+sentinel://127.0.0.1:%d/mine" % source.primary.port)
    assert k.wait() == 3 and "is no Sentinel" in k.said
    k = run(source, target, source_uri="redis+sentinel://127.0.0.1:%d" % port)
    assert k.wait() == 2 and "ends with the name" in k.said


@pytest.mark.parametrize("side", ["source", "target"])
def test_address_map(sentinel_set, single, run, cleanup, side):
    """What Sentinels announce is reached through a proxy alone."""
    named, other = sentinel_set("named"), single()
    proxy = FaultProxy(named.primary.address)
    cleanup[0].append(proxy)
    source, target = (named, other) if side == "source" else (other, named)
    fill(source)
    k = run(source, target, "--until", "caught-up", "--%s-address-map" % side,
            "127.0.0.1:1=127.0.0.1:2,127.0.0.1:%d=localhost:%d" % (named.primary.port, proxy.port))
    assert k.wait() == 0, k.said
    assert_equal(source, target)
    assert proxy.connections > 0
    k = run(source, target, "--until", "caught-up", "--restart", "--on-conflict", "overwrite",
            "--retry-time", "0s",
            "--%s-address-map" % side, "127.0.0.1=127.0.0.1:1")
    assert k.wait() == 1 and "127.0.0.1:1" in k.said


# -- a replica in the place of its primary ---------------------------------------------------------
def links(server):
    """How many replicas it has, and how many snapshots it has made for some."""
    with server.connect() as c:
        return c.info("replication")["connected_slaves"], c.info("stats")["sync_full"]


@pytest.mark.parametrize("named", ["sentinel", "primary", "list"])
def test_replica_is_read(sentinel_set, single, run, named):
    source, target = sentinel_set("source"), single()
    fill(source)
    primary, replica = source.nodes
    before = links(primary)
    uri = {"sentinel": source.uri(), "primary": primary.uri(),
           "list": primary.uri() + ",127.0.0.1:%d" % replica.port}[named]
    k = run(source, target, "--source-prefer-replica", source_uri=uri)
    with ClusterWriter(source, seed=8, rate=2000) as w:
        wait_caught_up(source, target, alive=k.alive)
        assert links(primary) == before
        assert links(replica) == ("1", "1")
        w.stop()
    wait_caught_up(source, target, alive=k.alive)
    assert_equal(source, target, unsent=CONSUMERS)
    assert "reading from a replica" in k.said
    assert k.terminate() == 0
    for n in source.nodes:
        assert n.call("KEYS", "keyhaul:*") == []


def test_replica_that_lags_is_waited_for(sentinel_set, single, run):
    """Caught up is who has what the primary has."""
    source, target = sentinel_set("source"), single()
    primary, replica = source.nodes
    with FaultProxy(primary.address) as proxy:
        replica.call("REPLICAOF", "127.0.0.1", proxy.port)
        wait_for(source.followed, 20)
        fill(source)
        wait_for(lambda: offsets(primary) == offsets(replica), 20)
        proxy.stall("down")
        primary.call("SET", "late", "1")
        k = run(source, target, "--source-prefer-replica", "--until", "caught-up",
                source_uri=primary.uri())
        wait_for(lambda: "snapshot loaded" in k.said, 20)
        time.sleep(4)
        k.alive()
        assert "reading from a replica" in k.said
        proxy.resume()
        assert k.wait() == 0, k.said
        assert target.call("GET", "late") == b"1"


def offsets(server):
    with server.connect() as c:
        return c.info("replication")["master_repl_offset"]


def test_replica_is_lost(sentinel_set, single, task):
    """A failover to the replica that is read from is no loss; and when one dies, the primary takes
    over. Without another snapshot."""
    source, target = sentinel_set("source"), single()
    fill(source)
    t = task(source, target, "--source-prefer-replica")

    def replica():
        return next(n for n in source.nodes if n is not source.primary)

    def fails_over():
        assert links(replica())[0] == "1"
        source.fail_over("kill9")
        caught_up(source, target, t)
        t.kill()
        t.start()

    def dies():
        caught_up(source, target, t)
        lost = replica()
        assert links(lost)[0] == "1"
        lost.kill()
        caught_up(source, target, t)
        assert links(source.primary)[0] == "1"
        lost.config["replicaof"] = ("127.0.0.1", source.primary.port)
        lost.restart()
        wait_for(source.followed, 20)
    with ClusterWriter(source, seed=9, cross=0.3) as w:
        t.start()
        play(source, target, t, w, fails_over, dies)
        assert w.problems(target) == w.problems(source)
    assert t.metric("snapshots") == 1


def test_replicas_of_shards_are_read(single, run, cleanup):
    source, target = Cluster(3, 1), single()
    cleanup[0].append(source)
    source.start()
    fill(source)
    before = [links(p) for p in source.primaries()]
    k = run(source, target, "--source-prefer-replica")
    with ClusterWriter(source, seed=10, rate=2000) as w:
        wait_caught_up(source, target, alive=k.alive)
        assert [links(p) for p in source.primaries()] == before
        for shard in range(3):
            assert [links(r) for r in source.replicas_of(shard)] == [("1", "1")]
        w.stop()
    wait_caught_up(source, target, alive=k.alive)
    assert k.terminate() == 0
    assert_equal(source, target, unsent=CONSUMERS)
    assert k.said.count("reading from a replica") == 3


def test_no_replica_there(single, run):
    source, target = single("source"), single("target")
    fill(source)
    k = run(source, target, "--source-prefer-replica", "--until", "caught-up")
    assert k.wait() == 0, k.said
    assert "no replica follows the source" in k.said
    assert_equal(source, target)
