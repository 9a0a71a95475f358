#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# keyhaul, broken on purpose in one way ($BROKENMOVER), into a cluster: proves that the chaos suite
# for clusters finds just that. The program is $BROKENMOVER_PROGRAM; what it keeps on the target is
# spoilt before it begins, or while it runs.
#
#   drop, double   now and then a change of the ledger is taken back, or made twice
#   tear           half of a transaction is taken back
#   forget         slots forget how far they are: what is not idempotent is done again
#   ahead          nodes say that they have more than they were told
#   foreign        keys that are not the task's are deleted
#   again          each start begins with a snapshot
#   left           a checkpoint stays behind
import ctypes
import os
import signal
import sys
import time

if __package__ in (None, ""):
    # in place of this folder, where an inspect.py would go before Python's own
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
from lib.compare import scan_keys  # noqa: E402
from lib.resp import ReplyError  # noqa: E402
from lib.route import Router  # noqa: E402
from lib.world import PREFIX  # noqa: E402

BROKEN = os.environ["BROKENMOVER"]
PROGRAM = os.environ["BROKENMOVER_PROGRAM"]
PR_SET_PDEATHSIG = 1
AHEAD = 10_000  # bytes of the stream


def target(argv):
    uri = argv[argv.index("--target") + 1]
    hosts = uri.split("://", 1)[1].split("/")[0].rsplit("@", 1)[-1]
    return Router({"kind": "cluster", "addresses": [
        (h, int(p)) for h, p in (x.rsplit(":", 1) for x in hosts.split(","))]}, timeout=3)


def keys(router, begin):
    """Of all nodes, those that begin so."""
    router.refresh()
    return sorted({k for a in set(router.owners.values()) for k in scan_keys(router.conn(a))
                   if k.startswith(begin)})


def marks(router):
    """{key: numbers} of the slots'."""
    found = [k for k in keys(router, PREFIX) if b"{" in k]
    values = router.calls([("GET", k) for k in found])
    return {k: [int(x) for x in v.split()] for k, v in zip(found, values) if v}


def put(router, changed):
    router.calls([("SET", k, b" ".join(b"%d" % n for n in v)) for k, v in changed.items()])


def before(router):
    if BROKEN == "forget":
        put(router, {k: [0, *v[1:]] for k, v in marks(router).items()})
    elif BROKEN == "ahead":
        put(router, {k: [n + AHEAD if n else 0 for n in v[:2]] + v[2:]
                     for k, v in marks(router).items()})


def ledger(router, kind):
    return [k for k in keys(router, b"{") if k.endswith(kind)]


def meanwhile(router):
    """Once more each time."""
    if BROKEN == "drop":
        router.calls([("RPOP", k) for k in ledger(router, b"led:l")[:1]])
    elif BROKEN == "double":
        router.calls([("INCR", k) for k in ledger(router, b"led:n")[:1]])
    elif BROKEN == "tear":
        router.calls([("INCRBY", k, 1) for k in ledger(router, b"}acct:0")])
    elif BROKEN == "foreign":
        router.calls([("DEL", k) for k in keys(router, b"foreign:")[:1]])
    elif BROKEN == "left":
        router.calls([("SET", PREFIX + b"chaos:00000000:{left}", "0 0 0 0")])


def spoil(argv):
    """In a process of its own, until keyhaul has ended, and once more then."""
    parent = os.getpid()
    if os.fork():
        return
    os.setsid()
    while True:
        time.sleep(0.4)
        gone = os.getppid() != parent
        try:
            with target(argv) as r:
                meanwhile(r)
        except (OSError, ReplyError, ValueError, TimeoutError):
            pass
        if gone:
            os._exit(0)


def main():
    argv = sys.argv[1:]
    if argv[0] == "migrate":
        try:
            with target(argv) as r:
                before(r)
        except (OSError, ReplyError, ValueError, TimeoutError) as e:
            print("not spoilt: %s" % e, file=sys.stderr)
        if BROKEN not in ("forget", "ahead", "again"):
            spoil(argv)
        if BROKEN == "again":
            argv.append("--restart")
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.execv(PROGRAM, [PROGRAM, *argv])


if __name__ == "__main__":
    main()
