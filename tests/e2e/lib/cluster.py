# SPDX-License-Identifier: BSD-3-Clause
# Real clusters on loopback: any number of shards and replicas, failed over, resharded, grown and
# shrunk by commands of our own.
import random
import socket
import tempfile
import time
from dataclasses import dataclass

from .faultproxy import FaultProxy
from .resp import ReplyError, wait_for
from .route import SLOTS, slot_of, text
from .server import Server, free_port
from .shape import Shape, cut_replicas, in_sync, join_replicas, replication_config


def bus_offset_ports():
    """A port and its bus port by the fixed distance of servers before 7.0."""
    while True:
        port = random.randrange(20000, 32000)
        try:
            with socket.socket() as a, socket.socket() as b:
                a.bind(("127.0.0.1", port))
                b.bind(("127.0.0.1", port + 10000))
            return port, port + 10000
        except OSError:
            continue


def ranges(slots):
    """Slots as [(first, last)]."""
    out = []
    for s in sorted(slots):
        if out and out[-1][1] == s - 1:
            out[-1] = (out[-1][0], s)
        else:
            out.append((s, s))
    return out


def even_split(count):
    """All slots in `count` parts."""
    edges = [round(i * SLOTS / count) for i in range(count + 1)]
    return [range(a, b) for a, b in zip(edges, edges[1:])]


@dataclass(frozen=True)
class Seen:
    """A line of CLUSTER NODES."""
    id: str
    flags: frozenset
    primary: str
    epoch: int
    link: str
    slots: frozenset
    moving: tuple

    @staticmethod
    def read(line):
        f = line.split()
        slots, moving = set(), []
        for part in f[8:]:
            if part.startswith("["):
                moving.append(part)
            else:
                first, _, last = part.partition("-")
                slots.update(range(int(first), int(last or first) + 1))
        return Seen(f[0], frozenset(f[2].split(",")), "" if f[3] == "-" else f[3], int(f[6]), f[7],
                    frozenset(slots), tuple(moving))

    def view(self):
        """What all nodes must agree upon."""
        return self.id, "master" in self.flags, self.primary, self.slots


class Node(Server):
    """A server of a cluster."""

    def __init__(self, cluster, number, **kw):
        super().__init__(name="%s-%d" % (cluster.name, number), **kw)
        self.cluster, self.number = cluster, number
        self.bus_port, self.node_id, self.proxy, self.public_port = 0, None, None, 0

    def choose_ports(self):
        self.dir = self.dir or tempfile.mkdtemp(prefix="kh-%s-" % self.name)
        if self.version >= (7, 0, 0):
            self.port, self.bus_port = free_port(), free_port()
            self.config["cluster-port"] = self.bus_port
        else:
            self.port, self.bus_port = bus_offset_ports()
        self.public_port = self.port
        if self.cluster.proxies:
            if self.proxy:
                self.proxy.close()
            self.proxy = FaultProxy(self.address)
            self.public_port = self.proxy.port
            self.config["cluster-announce-tls-port" if self.tls else "cluster-announce-port"] = \
                self.public_port
            self.config["cluster-announce-bus-port"] = self.bus_port
            self.config["cluster-announce-ip"] = "127.0.0.1"
        if self.cluster.hostnames:
            self.config["cluster-announce-hostname"] = "node-%d.cluster.test" % self.number
            self.config["cluster-preferred-endpoint-type"] = "hostname"

    def start(self):
        for _ in range(10):
            self.choose_ports()
            self.spawn()
            if self.wait_ready():
                return self
        raise RuntimeError("%s does not start: %s" % (self.binary, self.log()[-2000:]))

    def stop(self):
        super().stop()
        if self.proxy:
            self.proxy.close()

    @property
    def up(self):
        return self.proc is not None and self.proc.poll() is None

    @property
    def id(self):
        if not self.node_id:
            self.node_id = text(self.call("CLUSTER", "MYID"))
        return self.node_id

    def seen(self):
        """{id: Seen} of CLUSTER NODES, those in handshake left out."""
        lines = text(self.call("CLUSTER", "NODES")).splitlines()
        found = [Seen.read(x) for x in lines if "handshake" not in x.split()[2]]
        return {s.id: s for s in found}

    def myself(self):
        return next(s for s in self.seen().values() if "myself" in s.flags)

    def __repr__(self):
        return "<node %s at %d>" % (self.name, self.port)


class Shard:
    """Nodes that have the same slots; which of them is the primary changes."""

    def __init__(self):
        self.nodes = []

    def primary(self):
        """Of those that run and call themselves primary, the one of the highest epoch; None."""
        found = []
        for n in self.nodes:
            if n.up:
                try:
                    me = n.myself()
                except (OSError, ReplyError, StopIteration):
                    continue
                if "master" in me.flags:
                    found.append((me.epoch, n.number, n))
        return max(found)[2] if found else None


class Cluster(Shape):
    """shards x (1 + replicas) nodes. slots: one range per shard, else evenly. proxies: each node is
    announced by the port of a FaultProxy before it. hostnames: announced by name (7.0).
    config: of all nodes."""
    kind = "cluster"

    def __init__(self, shards=3, replicas=1, binary=None, name="cluster", config=None, tls=None,
                 password=None, timeout_ms=2000, proxies=False, hostnames=False, slots=None,
                 keep_log=None):
        self.name, self.proxies, self.hostnames = name, proxies, hostnames
        self.binary, self.tls, self.password, self.keep_log = binary, tls, password, keep_log
        self.timeout_ms, self.extra = timeout_ms, dict(config or {})
        self.split = slots or even_split(shards)
        self.shards, self.made = [], 0
        for _ in range(shards):
            shard = Shard()
            self.shards.append(shard)
            for _ in range(1 + replicas):
                self.make_node(shard)

    def make_node(self, shard):
        node = Node(self, self.made, binary=self.binary, tls=self.tls, password=self.password,
                    keep_log=self.keep_log)
        self.made += 1
        node.config = {**replication_config(node.version), "cluster-enabled": "yes",
                       "cluster-config-file": "nodes.conf",
                       "cluster-node-timeout": self.timeout_ms,
                       "cluster-replica-validity-factor": 0, "cluster-migration-barrier": 99}
        if node.version >= (7, 0, 0):
            node.config["cluster-allow-replica-migration"] = "no"
        if self.tls:
            node.config.update({"tls-cluster": "yes", "tls-replication": "yes"})
        node.config.update(self.extra)
        shard.nodes.append(node)
        return node

    @property
    def nodes(self):
        return [n for s in self.shards for n in s.nodes]

    # -- life ----------------------------------------------------------------------------------
    def start(self):
        try:
            self.start_nodes(self.nodes)
            for i, (shard, slots) in enumerate(zip(self.shards, self.split)):
                first = shard.nodes[0]
                first.call("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
                self.add_slots(first, slots)
            self.meet(self.nodes)
            for shard in self.shards:
                for n in shard.nodes[1:]:
                    n.call("CLUSTER", "REPLICATE", shard.nodes[0].id)
            self.wait_ok(60)
        except BaseException:
            self.stop()
            raise
        return self

    def start_nodes(self, nodes):
        for n in nodes:
            n.choose_ports()
            n.spawn()
        for n in nodes:
            if not n.wait_ready():
                n.start()

    def add_slots(self, node, slots):
        with node.connect() as c:
            if node.version >= (7, 0, 0):
                c.call("CLUSTER", "ADDSLOTSRANGE", *[x for r in ranges(slots) for x in r])
            else:
                c.call("CLUSTER", "ADDSLOTS", *slots)

    def meet(self, new):
        """Each new node is introduced to all others: gossip alone takes longer."""
        ids = {n.id for n in self.nodes}
        for i, n in enumerate(self.nodes):
            with n.connect() as c:
                for other in self.nodes[i + 1:]:
                    if n in new or other in new:
                        c.call("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus_port)

        def acquainted():
            """every node knows every other"""
            return all(set(n.seen()) == ids for n in self.nodes)
        wait_for(acquainted, 20)

    def wait_ok(self, timeout=30):
        """Until all nodes that run are up, agree on who has what, and all replicas follow."""
        def agreed():
            """cluster_state:ok on all nodes, one view, all replicas in sync"""
            up = [n for n in self.nodes if n.up]
            views = set()
            for n in up:
                with n.connect() as c:
                    try:
                        if b"cluster_state:ok" not in c.call("CLUSTER", "INFO"):
                            return False
                    except ReplyError:  # LOADING: it has just been started again
                        return False
                seen = n.seen()
                if any(seen[x.id].flags & {"fail", "fail?"} or not linked(seen[x.id])
                       for x in up if x.id in seen):
                    return False
                views.add(frozenset(s.view() for s in seen.values()))
                primary = next((x for x in up if x.id == seen[n.id].primary), None)
                if "slave" in seen[n.id].flags and not in_sync(n, primary):
                    return False
            return len(views) == 1

        def linked(s):
            return s.link == "connected" or "myself" in s.flags
        wait_for(agreed, timeout, every=0.05)

    # -- who -----------------------------------------------------------------------------------
    def shard(self, which):
        return which if isinstance(which, Shard) else self.shards[which]

    def primary_of(self, which, timeout=20):
        """The primary of a shard (or its number), waited for."""
        shard = self.shard(which)

        def there():
            """the shard has a primary"""
            return shard.primary()
        return wait_for(there, timeout)

    def primaries(self):
        """One per shard, those without slots as well."""
        return [self.primary_of(s) for s in self.shards if s.nodes]

    def replicas_of(self, which):
        p = self.primary_of(which)
        return [n for n in self.shard(which).nodes if n is not p]

    def shard_of(self, node):
        return next(s for s in self.shards if node in s.nodes)

    def slots_of(self, which):
        return self.primary_of(which).myself().slots

    def owner(self, slot):
        """The primary that has this slot."""
        def there():
            """somebody has the slot"""
            found = []
            for p in self.primaries():
                me = p.myself()
                if slot in me.slots:
                    found.append((me.epoch, p.number, p))
            return found and max(found)[2]
        return wait_for(there, 20)

    def slot_of(self, key):
        return slot_of(key)

    def node_of(self, key):
        return self.owner(slot_of(key))

    def seeds(self):
        """Of two shards: one is not enough where it is the one that fails."""
        return [s.nodes[0] for s in self.shards if s.nodes][:2]

    def redis_client(self):
        """python3-redis's own client, to see what others see."""
        from redis.cluster import ClusterNode, RedisCluster
        tls = {"ssl": True, "ssl_ca_certs": self.tls["ca"], "ssl_check_hostname": False,
               "ssl_certfile": self.tls["client_cert"],
               "ssl_keyfile": self.tls["client_key"]} if self.tls else {}
        return RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", n.public_port)
                                           for n in self.seeds()], password=self.password, **tls)

    # -- faults --------------------------------------------------------------------------------
    def kill9(self, node):
        node.kill()

    def restart(self, node):
        """The same again, with its nodes.conf and what it has saved. Before 7.0 it must not find
        its bus port taken, as no server must its port."""
        node.restart()

    def fail_over(self, which=0, how="manual", lose_s=0.0, gap_s=0.0, timeout=30, to=None):
        """A replica of the shard (`to`, if that matters) becomes its primary. how: manual (nothing
        is lost), kill9 of the primary (it comes back as a replica after gap_s), takeover (without
        asking anybody). lose_s: what the primary took that long before is lost, not with manual.
        The new primary."""
        shard = self.shard(which)
        old = self.primary_of(shard)
        replica = to or next(n for n in shard.nodes if n is not old and n.up)
        wait_for(lambda: in_sync(replica, old), timeout)
        if lose_s and how != "manual":
            cut_replicas(old)
            time.sleep(lose_s)
        if how == "kill9":
            old.kill()
        self.promoted(shard, old, replica, how, timeout)
        if how == "kill9":
            time.sleep(gap_s)
            old.restart()
        elif lose_s:
            join_replicas(old)
        self.wait_ok(timeout)
        return self.primary_of(shard)

    def promoted(self, shard, old, replica, how, timeout):
        """Until another is primary. A manual failover may time out, and is asked for again."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                if how == "manual":
                    replica.call("CLUSTER", "FAILOVER")
                elif how == "takeover":
                    replica.call("CLUSTER", "FAILOVER", "TAKEOVER")
            except ReplyError as e:
                if "to a replica" not in str(e):  # meanwhile it is none
                    raise
            again = time.monotonic() + (6 if how != "kill9" else timeout)
            while time.monotonic() < min(end, again):
                p = shard.primary()
                if p and p is not old and self.demoted(old):
                    return
                time.sleep(0.02)
        raise TimeoutError("no failover (%s) of %r within %g s" % (how, old, timeout))

    def demoted(self, old):
        return not old.up or "slave" in old.myself().flags

    # -- slots ---------------------------------------------------------------------------------
    def reshard(self, slots, source, target, how="classic", batch=20, gap_s=0.0):
        """Moves slots from shard (None: whichever has them) to shard. how: classic (MIGRATE,
        `batch` keys at a time, gap_s between two), or atomic (Valkey 9, Redis 8.4)."""
        if source is None:
            slots = set(slots)
            for s in [s for s in self.shards if s is not self.shard(target)]:
                part = slots & self.slots_of(s)
                if part:
                    self.reshard(part, s, target, how, batch, gap_s)
            return
        slots, source, target = sorted(slots), self.shard(source), self.shard(target)
        if how == "atomic":
            self.migrate_atomically(slots, source, target)
        else:
            with SlotMover(self, source, target, batch, gap_s) as m:
                for s in slots:
                    m.move(s)
        self.wait_owner(slots, target)

    def has_atomic(self):
        return all(n.version >= ((9, 0, 0) if n.valkey else (8, 4, 0)) for n in self.nodes) and \
            not any(n.redict for n in self.nodes)

    def wait_owner(self, slots, target, timeout=30):
        want = set(slots)

        def owned():
            """all nodes know the slots' new owner"""
            p = target.primary()
            return p and all(want <= n.seen()[p.id].slots for n in self.nodes if n.up)
        wait_for(owned, timeout, every=0.05)

    def migrate_atomically(self, slots, source, target, timeout=60):
        """A job may fail where a side fails over, and is begun again."""
        end, want = time.monotonic() + timeout, set(slots)
        said = ""
        while time.monotonic() < end:
            b = self.primary_of(target)
            todo = want - b.myself().slots
            if not todo:
                return
            try:
                said = self.run_job(ranges(todo), self.primary_of(source), b, end)
            except (OSError, ReplyError) as e:
                said = str(e)
            time.sleep(0.1)
        raise TimeoutError("slots do not move: " + said)

    def run_job(self, parts, a, b, end):
        """Begins a job, and waits for its end; its last state."""
        flat = [x for r in parts for x in r]
        if self.valkey:
            a.call("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *flat, "NODE", b.id)
            look = lambda: newest_state(a.call("CLUSTER", "GETSLOTMIGRATIONS"))
        else:
            job = b.call("CLUSTER", "MIGRATION", "IMPORT", *flat)
            look = lambda: newest_state(b.call("CLUSTER", "MIGRATION", "STATUS", "ID", job))
        while time.monotonic() < end:
            state = look()
            if state in ("success", "completed", "failed", "cancelled", "canceled"):
                return state
            time.sleep(0.02)
        return "no end"

    # -- growing and shrinking -----------------------------------------------------------------
    def add_node(self, shard=None):
        """A new shard without slots, or a replica of that shard; the node."""
        replica = shard is not None
        if not replica:
            self.shards.append(Shard())
        where = self.shard(shard) if replica else self.shards[-1]
        primary = self.primary_of(where) if replica else None
        node = self.make_node(where)
        self.start_nodes([node])
        self.meet([node])
        if replica:
            node.call("CLUSTER", "REPLICATE", primary.id)
        elif node.version >= (7, 0, 0):  # as the servers' own tool does
            code = self.primary_of(0).call("FUNCTION", "DUMP")
            node.call("FUNCTION", "RESTORE", code)
        self.wait_ok()
        return node

    def remove_node(self, node, how="classic"):
        """A replica just goes. A primary's slots are moved to the other shards first, and its
        replicas go with it."""
        shard = self.shard_of(node)
        if node is not shard.primary():
            return self.forget([node])
        others = [s for s in self.shards if s is not shard and s.nodes]
        slots = sorted(self.slots_of(shard))
        share = -(-len(slots) // len(others))
        for i, other in enumerate(others):
            part = slots[i * share:(i + 1) * share]
            if part:
                self.reshard(part, shard, other, how)
        return self.forget(list(shard.nodes))

    def forget(self, nodes):
        ids = [n.id for n in nodes]
        for n in nodes:
            self.shard_of(n).nodes.remove(n)
        for n in self.nodes:
            for i in ids:
                n.call("CLUSTER", "FORGET", i)
        for n in nodes:
            n.stop()
        self.shards = [s for s in self.shards if s.nodes]
        self.wait_ok()


class SlotMover:
    """Moves slots in the classic way, over connections that are kept."""

    def __init__(self, cluster, source, target, batch, gap_s):
        self.cluster, self.source, self.target = cluster, source, target
        self.batch, self.gap_s = batch, gap_s
        self.auth = ["AUTH", cluster.password] if cluster.password else []
        self.conns = []

    def dial(self):
        """To the primaries of now: old owner, new owner, all others."""
        self.hang_up()
        a, b = (self.cluster.primary_of(s) for s in (self.source, self.target))
        self.conns = [n.connect() for n in [a, b] + [
            p for p in self.cluster.primaries() if p not in (a, b)]]
        self.old, self.new, *self.others = self.conns
        self.old_id, self.new_id, self.new_port = a.id, b.id, b.port

    def hang_up(self):
        for c in self.conns:
            c.close()
        self.conns = []

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.hang_up()

    def move(self, slot, timeout=60):
        """A failover of either side in the middle is survived: what was told the old primary is
        told the new one."""
        end = time.monotonic() + timeout
        while True:
            try:
                if not self.conns:
                    self.dial()
                if self.open(slot):
                    self.move_keys(slot)
                self.close(slot)
                return
            except (OSError, ReplyError) as e:
                self.hang_up()
                if time.monotonic() > end:
                    raise TimeoutError("slot %d does not move: %s" % (slot, e))
                time.sleep(0.1)

    def open(self, slot):
        """False: the new owner has it already."""
        try:
            self.new.call("CLUSTER", "SETSLOT", slot, "IMPORTING", self.old_id)
        except ReplyError as e:
            if "already the owner" in str(e):
                return False
            raise
        self.old.call("CLUSTER", "SETSLOT", slot, "MIGRATING", self.new_id)
        return True

    def move_keys(self, slot):
        while True:
            keys = self.old.call("CLUSTER", "GETKEYSINSLOT", slot, self.batch)
            if not keys:
                return
            try:
                self.migrate(keys)
            except ReplyError as e:
                if "BUSYKEY" not in str(e):
                    raise
                # of an attempt that died between the RESTORE there and the DEL here
                self.migrate(keys, "REPLACE")
            if self.gap_s:
                time.sleep(self.gap_s)

    def migrate(self, keys, *how):
        self.old.call("MIGRATE", "127.0.0.1", self.new_port, "", 0, 5000, *how, *self.auth, "KEYS",
                      *keys)

    def close(self, slot):
        """The new owner first, then the old one, then all others."""
        for c in (self.new, self.old, *self.others):
            c.call("CLUSTER", "SETSLOT", slot, "NODE", self.new_id)


def newest_state(jobs):
    """Of the job begun last, as both families tell it."""
    if not jobs:
        return ""
    job = jobs[0]
    m = {text(k): v for k, v in zip(job[::2], job[1::2])}
    return text(m["state"])


