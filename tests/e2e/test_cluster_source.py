# SPDX-License-Identifier: BSD-3-Clause
# A clustered source: one run per shard as one task. Refused and ended as a whole, gone on with
# after kill -9, through failovers of its shards and slots that move.
import json
import os
import subprocess
import tempfile
import time

import pytest

from lib.cluster import Cluster, SlotMover
from lib.clustercompare import assert_equal
from lib.clusterload import CONSUMERS
from lib.clustermove import ClusterKeyhaul, fill, wait_settled
from lib.clusterwriter import ClusterWriter
from lib.mover import keyhaul_binary
from lib.resp import wait_for
from lib.route import slot_of, tag_of
from lib.server import find_servers
from lib.shape import Single

ROUNDS = int(os.environ.get("KEYHAUL_RESHARD_ROUNDS") or 1)  # of test_resharded
LIB = "#!lua name=%s\nredis.register_function('%s', function(k, a) return %d end)"


def keys_of(cluster, which, count, name="k"):
    """Names of keys in slots of that shard, each of another slot."""
    slots = sorted(cluster.slots_of(which))
    return ["%s:{%s}" % (name, tag_of(s)) for s in slots[:count]]


@pytest.fixture(scope="module")
def running():
    """running(server): a cluster of three shards and a single server, emptied for each test."""
    up = {}

    def get(server="default"):
        if server not in find_servers():
            pytest.skip("no server %s here" % server)
        if server not in up:
            binary = find_servers()[server]
            up[server] = Cluster(3, 1, binary=binary).start(), Single(binary=binary).start()
        for s in up[server]:
            s.everywhere("FLUSHALL")
            if s.version >= (7, 0, 0):
                s.everywhere("FUNCTION", "FLUSH")
        return up[server]
    yield get
    for sides in up.values():
        for s in sides:
            s.stop()


@pytest.fixture
def migrate(cleanup):
    things, folder = cleanup
    state = tempfile.mkdtemp(dir=folder)

    def run(source, target, *options, **kw):
        """One state folder for all runs of a test."""
        k = ClusterKeyhaul(source, target, "--state-dir", state, *options,
                           folder=tempfile.mkdtemp(dir=folder), **kw)
        k.state_dir = state
        things.append(k)
        return k
    return run


def write_some(source, value):
    with source.router() as r:
        r.calls([("SET", "some:%d" % i, value) for i in range(200)])
        r.calls([("DEL", "some:%d" % i) for i in range(0, 200, 7)])


def shards(k):
    return k.metrics().get("shards", [])


def left_on(target):
    return sorted(x for p in target.primaries() for x in p.call("KEYS", "keyhaul:*"))


# -- as one task ------------------------------------------------------------------------------

def test_sums_and_shards(running, migrate):
    source, target = running()
    fill(source)
    k = migrate(source, target)
    k.wait_caught_up()
    k.wait_metric(lambda m: m.get("phase") == "stream")
    m = k.metrics()
    seen = shards(k)
    assert [s["shard"] for s in seen] == [1, 2, 3]
    assert sum(s["slots"] for s in seen) == 16384
    assert sum(s["keys_written"] for s in seen) == m["keys_written"] > 800
    assert {s["phase"] for s in seen} == {"stream"}
    assert all(s["applied_offset"] > 0 for s in seen)
    out = subprocess.run([keyhaul_binary(), "status", "--state-dir", k.state_dir],
                         capture_output=True, text=True).stdout
    assert "stream" in out
    name = os.listdir(k.state_dir)[0]
    out = subprocess.run([keyhaul_binary(), "status", name, "--state-dir", k.state_dir],
                         capture_output=True, text=True).stdout
    rows = [line for line in out.splitlines() if not line.startswith("folder")]
    assert out.count("streaming, lag") == 3 and max(map(len, rows)) <= 80, out
    assert "\nsnapshots   3\n" in out, out
    out = subprocess.run([keyhaul_binary(), "status", name, "--state-dir", k.state_dir,
                          "--output", "json"], capture_output=True, text=True).stdout
    assert len(json.loads(out)["shards"]) == 3
    k.finish()
    assert left_on(target) == [b"keyhaul:checkpoint:%s/%d" % (name.encode(), n) for n in (1, 2, 3)]


def test_refused_as_a_whole(running, migrate):
    """One shard's conflict: no other has written anything."""
    source, target = running()
    fill(source)
    [key] = keys_of(source, 2, 1, "theirs")
    with source.router() as r:
        r.calls([("SET", key, "1")])
    target.primary.call("SET", key, "mine")
    migrate(source, target).expect(3, "exist there already")
    assert target.primary.call("DBSIZE") == 1
    migrate(source, target, "--on-conflict", "skip", "--until", "caught-up").expect(0)
    assert target.primary.call("GET", key) == b"mine"


@pytest.mark.parametrize("kind", ["full", "full+incremental"])
def test_one_at_a_time(running, migrate, kind):
    source, target = running()
    fill(source)
    k = migrate(source, target, "--max-snapshots", "1", "--until", "caught-up", "--type", kind,
                "--log-level", "info")
    k.expect(0)
    assert_equal(source, target, entries_read=True)
    assert left_on(target) == [] and os.listdir(k.state_dir) == []


def test_finish_command(running, migrate):
    source, target = running()
    fill(source)
    k = migrate(source, target)
    k.wait_caught_up()
    name = os.listdir(k.state_dir)[0]
    done = subprocess.run([keyhaul_binary(), "finish", name, "--state-dir", k.state_dir],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    k.expect(0)
    assert_equal(source, target, entries_read=True)
    assert left_on(target) == []


def test_state_is_kept_and_known(running, migrate):
    """Stopped, and gone on with by the stream: no second snapshot. Then without its folder."""
    source, target = running()
    fill(source)
    k = migrate(source, target)
    k.wait_caught_up()
    k.finish()
    write_some(source, "second")
    k = migrate(source, target)
    k.wait_caught_up()
    k.wait_metric(lambda m: m["snapshots"] == 3 and m["phase"] == "stream")
    assert k.metrics()["keys_read"] == 0
    k.finish()
    for name in os.listdir(k.state_dir):
        subprocess.run(["rm", "-rf", os.path.join(k.state_dir, name)], check=True)
    write_some(source, "third")
    k = migrate(source, target)
    k.wait_caught_up()
    assert "copied again" in k.said
    assert_equal(source, target)
    k.finish()


# -- what differs in the stream ---------------------------------------------------------------

def test_flush_of_a_shard(running, migrate):
    """Its keys go, those of others stay; also within a transaction, and again after it."""
    source, target = running()
    mine, others = keys_of(source, 0, 30), keys_of(source, 1, 30)
    stranger = keys_of(source, 1, 1, "stranger")[0]
    with source.router() as r:
        r.calls([("SET", x, "1") for x in mine + others])
    target.primary.call("SET", stranger, "1")
    k = migrate(source, target)
    k.wait_caught_up()
    p = source.primary_of(0)
    in_one = (("MULTI",), ("SET", mine[0], "a"), ("FLUSHALL",), ("SET", mine[0], "b"), ("EXEC",))
    for how in (("FLUSHALL",),), (("FLUSHDB",),), in_one:
        with p.connect() as conn:
            for c in how:
                conn.call(*c)
        k.wait_caught_up()
        there = set(target.primary.call("KEYS", "*"))
        want = {x.encode() for x in others + [stranger]}
        if how is in_one:
            want.add(mine[0].encode())
            assert target.primary.call("GET", mine[0]) == b"b"
        assert {x for x in there if not x.startswith(b"keyhaul:")} == want
        with source.router() as r:
            r.calls([("SET", x, "2") for x in mine[1:]])
            k.wait_caught_up()
            r.calls([("DEL", x) for x in mine[1:]])
        k.wait_caught_up()
    k.finish()


def test_libraries_from_every_shard(running, migrate):
    source, target = running()
    source.everywhere("FUNCTION", "LOAD", LIB % ("one", "f1", 1))
    k = migrate(source, target)
    k.wait_caught_up()
    source.everywhere("FUNCTION", "LOAD", LIB % ("two", "f2", 2))
    k.wait_caught_up()
    assert target.primary.call("FCALL", "f2", 0) == 2
    source.everywhere("FUNCTION", "LOAD", "REPLACE", LIB % ("two", "f2", 3))
    source.everywhere("FUNCTION", "DELETE", "one")
    k.wait_caught_up()
    assert target.primary.call("FCALL", "f2", 0) == 3
    assert len(target.primary.call("FUNCTION", "LIST")) == 1
    k.finish()
    assert k.metrics()["errors"] == 0


# -- crashes and failovers --------------------------------------------------------------------

def test_killed_again_and_again(running, migrate):
    source, target = running()
    fill(source)
    with ClusterWriter(source, seed=11) as w:
        k = migrate(source, target)
        k.wait_caught_up()
        for _ in range(5):
            time.sleep(0.3)
            k.proc.kill()
            k.wait()
            k = migrate(source, target)
        k.wait_caught_up()
        w.stop()
    k.finish()
    assert_equal(source, target, unsent=CONSUMERS)
    assert w.problems(target) == []


@pytest.mark.parametrize("how", ["manual", "kill9"])
def test_failover_of_a_shard(running, migrate, how):
    source, target = running()
    fill(source)
    with ClusterWriter(source, seed=12) as w:
        k = migrate(source, target)
        k.wait_caught_up()
        for which in (0, 1):
            source.fail_over(which, how)
            time.sleep(0.5)
        w.stop()
        k.wait_caught_up()
    k.finish()
    assert_equal(source, target, unsent=CONSUMERS)


# -- slots that move --------------------------------------------------------------------------

def there_and_back(source, count, how):
    slots = sorted(source.slots_of(0))[:count]
    source.reshard(slots, 0, 1, how)
    time.sleep(0.3)
    source.reshard(slots, 1, 0, how)


@pytest.mark.parametrize("round_", range(ROUNDS))
@pytest.mark.parametrize("server,how", [("default", "classic"), ("valkey-9.1", "atomic"),
                                        ("redis-8.6", "atomic")])
def test_resharded(running, migrate, server, how, round_):
    source, target = running(server)
    fill(source)
    with ClusterWriter(source, seed=13 + round_) as w:
        k = migrate(source, target)
        k.wait_caught_up()
        there_and_back(source, 2000, how)
        w.stop()
        k.wait_caught_up()
    settled(k)
    assert_equal(source, target, unsent=CONSUMERS)
    k.finish()
    assert w.problems(target) == []


def settled(k):
    [name] = os.listdir(k.state_dir)
    wait_settled(os.path.join(k.state_dir, name), 60, k.alive)


def test_resharded_while_killed(running, migrate):
    source, target = running()
    fill(source)
    slots = sorted(source.slots_of(0))
    with ClusterWriter(source, seed=14) as w:
        k = migrate(source, target)
        k.wait_caught_up()
        for i in range(4):
            part = slots[i * 200:(i + 1) * 200]
            source.reshard(part, 0, 1)
            k.proc.kill()
            k.wait()
            source.reshard(part[:100], 1, 2)
            k = migrate(source, target)
            time.sleep(0.4)
        w.stop()
        k.wait_caught_up()
    settled(k)
    assert_equal(source, target, unsent=CONSUMERS)
    k.finish()
    assert w.problems(target) == []
    source.reshard(slots[:800], None, 0)


def test_moved_while_the_target_hangs(running, migrate):
    """The map cannot be taken over as long as the target does not answer; then it is, and the task
    can be finished."""
    source, target = running()
    fill(source)
    slots = sorted(source.slots_of(0))[:20]
    with ClusterWriter(source, seed=16) as w:
        k = migrate(source, target, "--io-timeout", "1s")
        k.wait_caught_up()
        target.primary.pause()
        try:
            source.reshard(slots, 0, 1)
            wait_for(lambda: "no reply for" in k.said, 30)
        finally:
            target.primary.cont()
        w.stop()
    k.wait_caught_up()
    settled(k)
    name = os.listdir(k.state_dir)[0]
    done = subprocess.run([keyhaul_binary(), "finish", name, "--state-dir", k.state_dir],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_equal(source, target, unsent=CONSUMERS)
    assert w.problems(target) == []
    source.reshard(slots, 1, 0)


def test_large_slot(running, migrate):
    """More than is read at once: a key takes part from its own place on."""
    source, target = running()
    slot = min(source.slots_of(0))
    tag = tag_of(slot)
    with source.router(timeout=60) as r:
        for i in range(0, 6000, 500):
            r.calls([("SET", "{%s}s:%d" % (tag, j), "x" * 2000) for j in range(i, i + 500)])
        r.calls([("RPUSH", "{%s}l:%d" % (tag, j), *range(200)) for j in range(300)])
    k = migrate(source, target)
    k.wait_caught_up()
    source.reshard([slot], 0, 1)
    end = time.monotonic() + 3
    with source.router(timeout=60) as r:
        i = 0
        while time.monotonic() < end:
            i += 1
            r.calls([("INCR", "{%s}n:%d" % (tag, i % 50)),
                     ("LMOVE", "{%s}l:%d" % (tag, i % 300), "{%s}l:%d" % (tag, (i * 7) % 300),
                      "LEFT", "RIGHT"),
                     ("APPEND", "{%s}s:%d" % (tag, i % 6000), "y"),
                     ("DEL", "{%s}s:%d" % (tag, (i * 13) % 6000)),
                     ("RENAME", "{%s}l:%d" % (tag, i % 300), "{%s}l:%d" % (tag, i % 300))])
    k.wait_caught_up()
    settled(k)
    assert_equal(source, target)
    k.finish()
    source.reshard([slot], 1, 0)


def test_too_large_to_be_settled(running, migrate):
    """Then a snapshot brings the slot."""
    source, target = running()
    slot = min(source.slots_of(0))
    with source.router(timeout=60) as r:
        r.calls([("SET", "big:{%s}" % tag_of(slot), "x" * (40 << 20)), ("SET", "k", "1")])
    k = migrate(source, target)
    k.wait_caught_up()
    source.reshard([slot], 0, 1)
    wait_for(lambda: "a new snapshot is taken" in k.said, 30)
    k.wait_caught_up()
    settled(k)
    assert_equal(source, target)
    k.wait_metric(lambda m: m["snapshots"] == 4)
    k.finish()
    source.reshard([slot], 1, 0)


def test_shards_come_and_go(shape, migrate):
    source, target = shape(Cluster(2, 0)), shape(Single())
    fill(source)
    with ClusterWriter(source, seed=15) as w:
        k = migrate(source, target)
        k.wait_caught_up()
        source.add_node()
        source.reshard(sorted(source.slots_of(0))[:1500], 0, 2)
        wait_for(lambda: any(s["shard"] == 3 and s["phase"] == "stream" for s in shards(k)), 60)
        time.sleep(0.5)
        source.remove_node(source.primary_of(1))
        wait_for(lambda: any(s["shard"] == 2 and s["phase"] == "ended" for s in shards(k)), 60)
        w.stop()
        k.wait_caught_up()
    settled(k)
    assert_equal(source, target, unsent=CONSUMERS)
    name = os.listdir(k.state_dir)[0]
    k.finish()
    assert [x for x in left_on(target) if x.endswith(b"/2")] == []
    migrate(source, target, "--until", "caught-up").expect(0)
    assert left_on(target) == [] and name not in os.listdir(k.state_dir)


# -- where moves are met at an awkward moment ---------------------------------------------------

def ask_finish(k):
    [name] = os.listdir(k.state_dir)
    return subprocess.Popen([keyhaul_binary(), "finish", name, "--state-dir", k.state_dir],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_last_change_before_a_chunk(running, shape, migrate):
    """A slot that is read in pieces, its last change a counter's, into a cluster: what is read
    behind that change stands at the very offset that the slot's mark tells to be applied."""
    source, target = running()[0], shape(Cluster(2, 0))
    slot = min(source.slots_of(0))
    tag = tag_of(slot)
    with source.router(timeout=60) as r:
        for i in range(0, 20000, 1000):
            r.calls([("SET", "{%s}s:%d" % (tag, j), "x" * 500) for j in range(i, i + 1000)])
        r.calls([("SET", "{%s}n:%d" % (tag, j), "0") for j in range(200)])
    k = migrate(source, target)
    k.wait_caught_up()
    source.reshard([slot], 0, 1)
    end = time.monotonic() + 3
    with source.router(timeout=60) as r:
        i = 0
        while time.monotonic() < end:
            i += 1
            r.calls([("INCR", "{%s}n:%d" % (tag, i % 200))])
            time.sleep(0.01)
    k.wait_caught_up()
    settled(k)
    assert_equal(source, target)
    k.finish()
    source.reshard([slot], 1, 0)


def test_new_shard_while_it_ends(shape, migrate):
    """Asked to end, one shard holds it up, and then there is another one."""
    source, target = shape(Cluster(2, 0)), shape(Single())
    fill(source)
    source.add_node()
    k = migrate(source, target)
    k.wait_caught_up()
    k.wait_metric(lambda m: m["phase"] == "stream")
    source.primary_of(1).call("CLIENT", "PAUSE", 4000)
    done = ask_finish(k)
    wait_for(lambda: "asked to finish" in k.said, 10)
    source.reshard(sorted(source.slots_of(0))[:300], 0, 2)
    k.expect(0)
    assert done.wait(20) == 0
    assert_equal(source, target, entries_read=True)
    assert left_on(target) == []


@pytest.mark.parametrize("kind", ["full", "full+incremental"])
def test_no_end_while_a_slot_is_half_way(running, migrate, kind):
    """Of such a slot each of two shards has a part, and one of them acts on it."""
    source, target = running()
    fill(source)
    slot = min(source.slots_of(0))
    with source.router() as r:
        r.calls([("SET", "{%s}:%d" % (tag_of(slot), i), "1") for i in range(50)])
    with SlotMover(source, source.shard(0), source.shard(1), 20, 0) as m:
        m.dial()
        m.open(slot)
        m.migrate(m.old.call("CLUSTER", "GETKEYSINSLOT", slot, 20))
        k = migrate(source, target, "--until", "caught-up", "--type", kind)
        wait_for(lambda: "half way" in k.said, 30)
        time.sleep(1)
        k.alive()
        m.move_keys(slot)
        m.close(slot)
    k.expect(0)
    assert_equal(source, target, entries_read=True)
    source.reshard([slot], 1, 0)


def restores(conn):
    stats = conn.call("INFO", "commandstats").decode()
    return sum(int(x.partition("calls=")[2].partition(",")[0]) for x in stats.splitlines()
               if x.startswith("cmdstat_restore:"))


def test_second_database_while_a_slot_is_settled(shape, migrate):
    """Only Valkey 9 has them in a cluster. What is read is of the first one."""
    if "valkey-9.1" not in find_servers():
        pytest.skip("no server valkey-9.1 here")
    binary = find_servers()["valkey-9.1"]
    source = shape(Cluster(2, 0, binary=binary, config={"cluster-databases": 4}))
    target = shape(Single(binary=binary))
    slot = min(source.slots_of(0))
    tag = tag_of(slot)
    mine = keys_of(source, 1, 1, "second")[0]
    with source.router(timeout=60) as r:
        for i in range(0, 60000, 1000):
            r.calls([("SET", "{%s}s:%d" % (tag, j), "x" * 500) for j in range(i, i + 1000)])
    k = migrate(source, target)
    k.wait_caught_up()
    with source.primary_of(1).connect(db=1) as c, target.primary.connect() as t:
        source.reshard([slot], 0, 1)
        before = restores(t)
        wait_for(lambda: restores(t) > before, 30)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            c.call("INCR", mine)
    k.wait_caught_up()
    settled(k)
    assert [target.primary.call("DBSIZE", db=1), target.primary.call("GET", mine, db=1)] == \
        [1, source.primary_of(1).call("GET", mine, db=1)]
    assert len(target.primary.call("KEYS", "{%s}s:*" % tag)) == 60000
    k.finish()


def test_resharded_without_resume(running, migrate):
    """Without checkpoints nothing tells that a slot is settled but a snapshot."""
    source, target = running()
    fill(source)
    slots = sorted(source.slots_of(0))[:100]
    k = migrate(source, target, "--resume", "no")
    k.wait_caught_up()
    source.reshard(slots, 0, 1)
    write_some(source, "moved")
    settled(k)
    k.wait_caught_up()
    assert_equal(source, target)
    k.finish()
    source.reshard(slots, 1, 0)


def test_larger_than_it_is_told(running, migrate):
    """MEMORY USAGE looks at the first elements only, and no reply may be that large."""
    source, target = running()
    slot = min(source.slots_of(0))
    key = "big:{%s}" % tag_of(slot)
    with source.router() as r:
        r.calls([("RPUSH", key, *["y" * 8000] * 12)])
    k = migrate(source, target)
    k.wait_caught_up()
    k.finish()
    source.reshard([slot], 0, 1)
    with source.router(timeout=60) as r:
        for _ in range(2):
            r.calls([("RPUSH", key, os.urandom(40 << 20))])
    assert source.node_of(key).call("MEMORY", "USAGE", key) < 32 << 20
    k = migrate(source, target)
    wait_for(lambda: "a new snapshot is taken" in k.said, 30)
    k.wait_caught_up()
    settled(k)
    assert_equal(source, target)
    k.finish()
    with source.router() as r:
        r.calls([("DEL", key)])
    source.reshard([slot], 1, 0)


def test_too_large_to_be_turned(running, shape, migrate):
    """A value of a type that an older target does not know, larger than what a command may bring:
    a snapshot does."""
    for name in "redis-7.0", "redis-6.0":
        if name not in find_servers():
            pytest.skip("no server %s here" % name)
    source = running("redis-7.0")[0]
    target = shape(Single(binary=find_servers()["redis-6.0"]))
    slot = min(source.slots_of(0))
    key = "list:{%s}" % tag_of(slot)
    with source.router(timeout=60) as r:
        r.calls([("RPUSH", key, *[os.urandom(2000) for _ in range(1000)]) for _ in range(10)])
    k = migrate(source, target)
    k.wait_caught_up()
    source.reshard([slot], 0, 1)
    k.wait_caught_up()
    settled(k)
    assert_equal(source, target)
    assert k.metrics()["errors"] == 0
    k.finish()
    source.reshard([slot], 1, 0)
