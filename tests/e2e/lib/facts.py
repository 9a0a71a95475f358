# SPDX-License-Identifier: BSD-3-Clause
# Small looks at a server that several tests share.


def digest(server):
    """One number for all that a server holds, functions and number of keys included."""
    with server.connect() as c:
        functions = c.call("FUNCTION", "LIST", "WITHCODE") if server.version >= (7, 0, 0) else None
        return c.call("DEBUG", "DIGEST"), sorted(map(repr, functions or ()))


def writes(server):
    """Commands that the server has executed and that change data, by INFO commandstats."""
    with server.connect() as c:
        stats = c.info("commandstats")
    ours = ("set", "restore", "rpush", "hset", "sadd", "zadd", "xadd", "del", "unlink", "flushall",
            "flushdb", "function|load", "mset", "append", "pexpireat", "swapdb")
    return {n[8:]: v for n, v in stats.items() if n[8:] in ours}


def replica_lines(server):
    with server.connect() as c:
        return c.call("CLIENT", "LIST", "TYPE", "replica").decode().splitlines()


def replica_backlog(server):
    """Bytes the source holds for its slowest replica: the price of not being drained."""
    most = 0
    for line in replica_lines(server):
        f = dict(x.split("=", 1) for x in line.split() if "=" in x)
        most = max(most, int(f.get("omem", 0)))
    return most
