#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# The servers' own replication behind keyhaul's command line: what the chaos suite says of a mover
# that is known to be right wherever it can be used (one version, an empty target, nothing refused).
import json
import os
import signal
import sys
import time

if __package__ in (None, ""):
    # in place of this folder, where an inspect.py would go before Python's own
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
from lib.plainmover import addresses, parse  # noqa: E402
from lib.resp import Client, ReplyError  # noqa: E402


class Replication:
    def __init__(self, opts):
        self.opts = opts
        self.sources = addresses(opts.source)
        self.at = 0
        self.down_since = None
        self.stopping = False

    def head(self, hosts):
        """A connection to the one of them that its own side calls primary: the target's is a
        replica too, but of none of its own."""
        for h in hosts:
            try:
                c = Client(h, timeout=2)
                m = c.info("replication")
                if m["role"] == "master" or int(m["master_port"]) in [p for _, p in self.sources]:
                    return c, m
                c.close()
            except (OSError, ReplyError, KeyError, ValueError):
                continue
        return None, None

    def step(self):
        c, m = self.head(addresses(self.opts.target))
        if c is None:
            return
        with c:
            if self.stopping:
                c.call("REPLICAOF", "NO", "ONE")
                return
            up = m.get("master_link_status") == "up"
            if up or m.get("master_sync_in_progress") == "1":
                self.down_since = None
            elif self.down_since is None:
                self.down_since = time.monotonic()
            elif time.monotonic() - self.down_since > 0.7:
                self.at, self.down_since = self.at + 1, None
                m["role"] = "master"
            if m["role"] == "master":
                c.call("REPLICAOF", *self.sources[self.at % len(self.sources)])
            self.write_metrics("stream" if up else "connect")

    def write_metrics(self, phase):
        path = self.opts.metrics_file
        if path:
            with open(path + ".new", "w") as f:
                json.dump({"phase": phase, "counters": {"snapshots": 1, "errors": 0}}, f)
            os.replace(path + ".new", path)


def main():
    r = Replication(parse(sys.argv[1:]))

    def stop(*_):
        r.stopping = True
    signal.signal(signal.SIGTERM, stop)
    while not r.stopping:
        try:
            r.step()
        except (OSError, ReplyError):
            pass
        time.sleep(0.05)
    r.step()
    return 0


if __name__ == "__main__":
    sys.exit(main())
