# SPDX-License-Identifier: BSD-3-Clause
# What has one primary or many, told in one way: a single server, a primary with replicas and
# sentinels, a cluster (cluster.py).
import os
import re
import subprocess
import time

from .resp import ReplyError, wait_for
from .route import Router, text
from .server import Server

# Replicas come by a user of their own. While it is off, they lag behind, and nobody else does.
REPLICA_USER, REPLICA_PASSWORD = "replica", "of-mine"


def replication_config(version):
    rights = ("on", ">" + REPLICA_PASSWORD, "~*", "+@all") + (("&*",) if version >= (6, 2) else ())
    return {"user": (REPLICA_USER, *rights), "masteruser": REPLICA_USER,
            "masterauth": REPLICA_PASSWORD, "repl-backlog-size": "64mb",
            "repl-ping-replica-period": 1, "repl-timeout": 6}


def cut_replicas(server):
    """From now on no replica of its own gets what it takes: lost, if one of them takes over."""
    with server.connect() as c:
        c.call("ACL", "SETUSER", REPLICA_USER, "off")
        c.call("CLIENT", "KILL", "USER", REPLICA_USER)


def join_replicas(server):
    server.call("ACL", "SETUSER", REPLICA_USER, "on")


def in_sync(server, primary=None):
    """Is this replica's link up? primary: and does that one think so as well? It knows at once that
    a connection is gone of which the replica hears nothing for a while."""
    with server.connect() as c:
        m = c.info("replication")
    if m["role"] != "slave" or m.get("master_link_status") != "up":
        return False
    return primary is None or fed(primary, server)


def fed(primary, replica):
    with primary.connect() as c:
        m = c.info("replication")
    told = [v for k, v in m.items() if re.fullmatch(r"slave\d+", k)]
    return any("port=%d,state=online," % replica.port in v for v in told)


class Shape:
    """kind: as in Router's where. Subclasses have nodes, primaries(), start(), fail_over()."""
    kind = "single"
    nodes = ()

    @property
    def version(self):
        return min(n.version for n in self.nodes)

    @property
    def valkey(self):
        return self.nodes[0].valkey

    @property
    def primary(self):
        """The only one."""
        found = self.primaries()
        assert len(found) == 1, found
        return found[0]

    def seeds(self):
        return self.nodes[:2]

    def uri(self, user="", password=None):
        """As a user would name it to keyhaul; password: its own, if not given."""
        first = self.nodes[0]
        return "%s://%s%s" % ("rediss" if first.tls else "redis", self.auth(user, password),
                              ",".join("127.0.0.1:%d" % port_told(n) for n in self.seeds()))

    def auth(self, user, password):
        password = password or self.nodes[0].password
        return "%s:%s@" % (user, password) if password else ""

    def add_user(self, name, password, *rules):
        """To all nodes, until they are started again."""
        for n in self.nodes:
            n.call("ACL", "SETUSER", name, "on", ">" + password, *rules)

    def where(self, db=0):
        """For a Router, here or in another process."""
        first = self.nodes[0]
        w = {"kind": self.kind, "addresses": self.addresses(), "db": db,
             "direct": {str(port_told(n)): n.port for n in self.nodes}}
        if first.password:
            w["password"] = first.password
        if first.tls:
            w["tls"] = {"ca": first.tls["ca"], "cert": first.tls["client_cert"],
                        "key": first.tls["client_key"]}
        return w

    def addresses(self):
        return [n.address for n in self.nodes]

    def router(self, db=0, timeout=60):
        return Router(self.where(db), timeout=timeout)

    def call(self, *args):
        """One command to whom it concerns."""
        with self.router() as r:
            return r.call(*args)

    def everywhere(self, *args):
        """One command to each primary; the replies."""
        return [p.call(*args) for p in self.primaries()]

    def stop(self):
        for n in self.nodes:
            n.stop()

    def close(self):
        self.stop()

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()


def port_told(node):
    """The port by which a node is announced to clients."""
    return getattr(node, "public_port", node.port)


class Single(Shape):
    """One server; options are those of Server."""

    def __init__(self, name="single", **kw):
        self.nodes = [Server(name=name, **kw)]

    def start(self):
        self.nodes[0].start()
        return self

    def primaries(self):
        return list(self.nodes)


class Sentinel(Server):
    """watches: Server. Its configuration is a file, since it is rewritten."""

    def __init__(self, watches, group, quorum, down_ms, **kw):
        super().__init__(**kw)
        self.watches, self.group, self.quorum, self.down_ms = watches, group, quorum, down_ms

    def spawn(self):
        path = os.path.join(self.dir, "sentinel.conf")
        if not os.path.exists(path) or "port %d\n" % self.port not in open(path).read():
            with open(path, "w") as f:
                f.write("\n".join(self.lines()) + "\n")
        from .server import die_with_parent
        with open(os.path.join(self.dir, "stdout.log"), "ab") as out:
            self.proc = subprocess.Popen([self.binary, path, "--sentinel"], stdout=out, stderr=out,
                                         cwd=self.dir, preexec_fn=die_with_parent)

    def lines(self):
        yield from ("bind 127.0.0.1", "port %d" % self.port, "dir " + self.dir,
                    "logfile server.log", "protected-mode no",
                    "sentinel monitor %s 127.0.0.1 %d %d" % (
                        self.group, self.watches.port, self.quorum),
                    "sentinel down-after-milliseconds %s %d" % (self.group, self.down_ms),
                    "sentinel failover-timeout %s 3000" % self.group)
        if self.watches.password:
            yield "sentinel auth-pass %s %s" % (self.group, self.watches.password)
        if self.password:  # 6.2
            yield from ("requirepass " + self.password, "sentinel sentinel-pass " + self.password)

    def facts(self):
        with self.connect() as c:
            flat = c.call("SENTINEL", "MASTER", self.group)
        return {text(k): text(v) for k, v in zip(flat[::2], flat[1::2])}


class SentinelSet(Shape):
    """A primary, its replicas, and sentinels that watch them."""
    kind = "sentinel"

    def __init__(self, replicas=1, sentinels=3, group="mine", name="sentinel-set", binary=None,
                 password=None, config=None, down_ms=1000, keep_log=None, sentinel_password=None):
        self.group = group
        kw = {"binary": binary, "keep_log": keep_log}
        probe = Server(binary)
        base = {**replication_config(probe.version), **(config or {})}
        self.nodes = [Server(config=dict(base), name="%s-%d" % (name, i), password=password, **kw)
                      for i in range(replicas + 1)]
        self.sentinels = [Sentinel(self.nodes[0], group, sentinels // 2 + 1, down_ms,
                                   name="%s-s%d" % (name, i), password=sentinel_password, **kw)
                          for i in range(sentinels)]

    def start(self):
        first = self.nodes[0].start()
        for n in self.nodes[1:]:
            n.config["replicaof"] = ("127.0.0.1", first.port)
            n.start()
        for s in self.sentinels:
            s.start()
        self.wait_ready()
        return self

    def wait_ready(self, timeout=30):
        def ready():
            """all sentinels know each other, the primary and its replicas, which are in sync"""
            for s in self.sentinels:
                f = s.facts()
                if (f["flags"], int(f["num-slaves"]), int(f["num-other-sentinels"])) != (
                        "master", len(self.nodes) - 1, len(self.sentinels) - 1):
                    return False
            return self.followed()
        wait_for(ready, timeout, every=0.1)

    def followed(self):
        """all sentinels name one primary, and all others follow it"""
        p = self.primary
        if any(int(s.facts()["port"]) != p.port for s in self.sentinels):
            return False
        return all(n is p or in_sync(n) for n in self.nodes)

    def told_port(self):
        """The primary's, as the first sentinel says."""
        with self.sentinels[0].connect() as c:
            return int(c.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.group)[1])

    def primaries(self):
        port = self.told_port()
        return [n for n in self.nodes if n.port == port]

    def uri(self, user="", password=None):
        return "redis+sentinel://%s%s/%s" % (self.auth(user, password), ",".join(
            "127.0.0.1:%d" % s.port for s in self.sentinels), self.group)

    def addresses(self):
        return [s.address for s in self.sentinels]

    def where(self, db=0):
        return {**super().where(db), "name": self.group,
                "sentinel_password": self.sentinels[0].password}

    def fail_over(self, how="manual", lose_s=0.0, gap_s=0.0, timeout=30):
        """how: manual, or kill9 of the primary, without what it was told in the last lose_s. The
        old one comes back as a replica; the new primary."""
        old = self.primary
        lose_s = lose_s if how == "kill9" else 0
        if lose_s:
            cut_replicas(old)
            time.sleep(lose_s)
        if how == "kill9":
            old.kill()
        else:
            self.ask_for_failover()

        def moved():
            """a replica has taken over"""
            p = [n for n in self.primaries() if n is not old]
            return p and p[0].call("ROLE")[0] == b"master" and p
        new = wait_for(moved, timeout, every=0.05)[0]
        if how == "kill9":
            time.sleep(gap_s)
            old.config["replicaof"] = ("127.0.0.1", new.port)
            old.restart()
        else:  # the sentinels do so as well, ten seconds later
            old.call("REPLICAOF", "127.0.0.1", new.port)
        wait_for(self.followed, timeout)
        return new

    def ask_for_failover(self):
        def taken():
            try:
                return self.sentinels[0].call("SENTINEL", "FAILOVER", self.group)
            except ReplyError as e:
                if "NOGOODSLAVE" not in str(e) and "INPROG" not in str(e):
                    raise
        wait_for(taken, 20, every=0.2)

    def stop(self):
        for s in self.sentinels:
            s.stop()
        super().stop()
