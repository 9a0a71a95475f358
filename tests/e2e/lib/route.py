# SPDX-License-Identifier: BSD-3-Clause
# An application's way to its data: a single server, sentinels, or a cluster whose redirections it
# follows by itself. It knows of each command whether it was answered.
import binascii
import random
import time

from .resp import Client, Closed, ReplyError, encode

SLOTS = 16384
PATIENCE_S = 40
# Not executed, and sooner or later it will be.
PASSING = ("TRYAGAIN", "CLUSTERDOWN", "READONLY", "LOADING", "MASTERDOWN", "MISCONF", "OOM",
           "NOREPLICAS", "UNBLOCKED", "BUSY")
FIRST_KEY = {"EVAL": 3, "EVALSHA": 3, "EVAL_RO": 3, "FCALL": 3, "FCALL_RO": 3, "BITOP": 2,
             "XGROUP": 2, "XINFO": 2, "OBJECT": 2, "MEMORY": 2, "LMPOP": 2, "ZMPOP": 2, "BLMPOP": 3,
             "BZMPOP": 3, "MSETEX": 2, "SINTERCARD": 2, "ZUNION": 2, "ZINTER": 2, "ZDIFF": 2,
             "XREADGROUP": None, "XREAD": None, "DEBUG": 2}
KEYLESS = {"PUBLISH", "FUNCTION", "SCRIPT", "INFO", "CONFIG", "PING", "TIME", "DBSIZE", "CLUSTER",
           "CLIENT", "FLUSHALL", "FLUSHDB", "WAIT", "ROLE", "SELECT", "ACL", "SWAPDB"}

_TAGS = {}


def text(b):
    return b.decode(errors="replace") if isinstance(b, bytes) else str(b)


def slot_of(key):
    key = key.encode() if isinstance(key, str) else key
    start = key.find(b"{")
    end = key.find(b"}", start + 1) if start >= 0 else -1
    if end > start + 1:
        key = key[start + 1:end]
    return binascii.crc_hqx(key, 0) % SLOTS


def tag_of(slot):
    """A short hash tag of this slot, always the same one."""
    n = 0
    while not _TAGS or len(_TAGS) < SLOTS:
        _TAGS.setdefault(slot_of("t%d" % n), "t%d" % n)
        n += 1
    return _TAGS[slot]


def first_key(args):
    """Of a command as the tests use them; None: it has no key."""
    name = text(args[0]).upper()
    if name in KEYLESS:
        return None
    if name in ("XREADGROUP", "XREAD"):
        return args[[text(a).upper() if isinstance(a, (str, bytes)) else "" for a in
                     args].index("STREAMS") + 1]
    if name.startswith(("EVAL", "FCALL")) and int(args[2]) == 0:
        return None
    at = FIRST_KEY.get(name, 1)
    key = args[at] if at < len(args) else None
    return key if key is None or isinstance(key, (str, bytes)) else text(key)


class Unit:
    """What goes together over one connection: one command, or those from MULTI to EXEC. slot None:
    any node will do. note: the caller's own."""
    __slots__ = ("commands", "slot", "note", "ask")

    def __init__(self, commands, slot=None, note=None):
        self.commands, self.slot, self.note, self.ask = commands, slot, note, None

    def refusal(self, replies):
        """The words with which it was not executed for now, None: it is done, well or not."""
        for r in replies:
            if isinstance(r, ReplyError):
                words = str(r).split()
                if words and words[0] in ("MOVED", "ASK") + PASSING:
                    return words
        return None


class Router:
    """where: {"kind": single, sentinel or cluster, "addresses", "db", "user", "password", "tls",
    "name": of the primary for sentinels, "sentinel_password": theirs, "direct": {"port as announced": port to dial}}."""

    def __init__(self, where, timeout=5, seed=0):
        self.where, self.timeout = where, timeout
        self.cluster = where["kind"] == "cluster"
        self.known = [self.real(a) for a in where["addresses"]]
        self.owners, self.conns = {}, {}
        self.rng = random.Random(seed)
        self.counts = {"moved": 0, "ask": 0, "passing": 0, "lost": 0}

    def real(self, address):
        if isinstance(address, str):
            return address
        host, port = address
        return ("127.0.0.1" if host == "localhost" or host.endswith(".test") else host,
                int(self.where.get("direct", {}).get(str(port), port)))

    # -- connections ---------------------------------------------------------------------------
    def connect(self, address):
        w = self.where
        return Client(address, db=w.get("db", 0), user=w.get("user"), password=w.get("password"),
                      tls=w.get("tls"), timeout=self.timeout)

    def conn(self, address):
        if address not in self.conns:
            self.conns[address] = self.connect(address)
        return self.conns[address]

    def drop(self, address):
        c = self.conns.pop(address, None)
        if c:
            c.close()

    def close(self):
        for a in list(self.conns):
            self.drop(a)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    # -- who has it ----------------------------------------------------------------------------
    def refresh(self):
        """Ask again who is primary, of any node that answers; True: one did."""
        find = getattr(self, "find_" + self.where["kind"])
        asked = list(dict.fromkeys(self.known + ([a for a in self.owners.values()]
                                                 if self.cluster else [])))
        self.rng.shuffle(asked)
        for a in asked:
            try:
                owners = find(a)
            except (OSError, ReplyError, ValueError):
                self.drop(a)
                continue
            if owners:
                self.owners = owners
                return True
        return False

    def find_single(self, address):
        try:
            return {None: address} if self.conn(address).call("ROLE")[0] == b"master" else None
        except (OSError, ValueError):
            self.drop(address)  # a sentinel may have named it: then it is not the one asked
            raise

    def find_sentinel(self, address):
        with Client(address, timeout=self.timeout,
                    password=self.where.get("sentinel_password")) as c:
            said = c.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.where["name"])
        return self.find_single((text(said[0]), int(said[1]))) if said else None

    def find_cluster(self, address):
        owners = {}
        for first, last, primary, *_ in self.conn(address).call("CLUSTER", "SLOTS"):
            if primary[0] == b"?":
                continue
            a = self.real((text(primary[0] or b"") or address[0], primary[1]))
            for s in range(first, last + 1):
                owners[s] = a
        return owners

    def address_of(self, slot):
        """Of the node to ask, None: nobody knows for now."""
        if not self.owners:
            self.refresh()
        if not self.cluster:
            return self.owners.get(None)
        if slot is None:
            return self.rng.choice(list(self.owners.values())) if self.owners else None
        return self.owners.get(slot)

    # -- sending -------------------------------------------------------------------------------
    def run(self, units, over=None):
        """Sends all, each where it belongs, again where a node says so. [(unit, replies)] as they
        were answered; replies None: sent, the connection was lost, and nobody knows. What has not
        been executed when over() says so is not in the list."""
        out, todo, end = [], list(units), time.monotonic() + PATIENCE_S
        while todo:
            before = len(todo)
            todo = self.attempt(todo, out)
            if todo and over and over():
                break
            if todo and time.monotonic() > end:
                raise TimeoutError("not executed within %d s: %r" % (PATIENCE_S,
                                                                     todo[0].commands[0][:3]))
            if len(todo) < before:
                end = time.monotonic() + PATIENCE_S
        return out

    def attempt(self, units, out):
        """All of them once; those to try again."""
        again, flights = [], {}
        self.must_wait = self.must_ask = False
        for u in units:
            flights.setdefault(u.ask or self.address_of(u.slot), []).append(u)
        sent = []
        for address, us in flights.items():
            try:
                c = self.conn(address) if address else None
            except (OSError, ReplyError):
                c = None
            if c is None:
                self.must_wait = self.must_ask = True
                for u in us:
                    u.ask = None
                again += us
                continue
            try:
                c.send(b"".join(encode(x) for u in us for x in self.wire(u)))
            except OSError:
                pass  # reading tells
            sent.append((address, c, us))
        for address, c, us in sent:
            again += self.read(address, c, us, out)
        if self.must_ask:
            self.refresh()
        if self.must_wait:
            time.sleep(0.03)
        return again

    def wire(self, unit):
        return ([("ASKING",)] if unit.ask else []) + unit.commands

    def read(self, address, c, units, out):
        again = []
        for i, u in enumerate(units):
            try:
                replies = [c.read() for _ in self.wire(u)]
            except (OSError, ValueError):
                self.drop(address)
                self.counts["lost"] += 1
                self.must_wait = self.must_ask = True
                out += [(x, None) for x in units[i:]]
                break
            words = u.refusal(replies)
            if words is None:
                out.append((u, replies[1 if u.ask else 0:]))
            else:
                self.turn(u, words, address)
                again.append(u)
        return again

    def turn(self, unit, words, address):
        """Not executed: where to next."""
        unit.ask = None
        if words[0] in ("MOVED", "ASK"):
            host, _, port = words[2].rpartition(":")
            to = self.real((host or address[0], port))
            self.counts[words[0].lower()] += 1
            if words[0] == "ASK":
                unit.ask = to
            elif to == address:
                self.must_wait = True
            else:
                self.owners[unit.slot if unit.slot is not None else int(words[1])] = to
            return
        self.counts["passing"] += 1
        self.must_wait = True
        self.must_ask |= words[0] != "TRYAGAIN"

    # -- for tests -----------------------------------------------------------------------------
    def call(self, *args):
        """One command; raises its error, and Closed where nobody knows what became of it."""
        return self.calls([args])[0]

    def calls(self, commands, raising=True):
        """Each command by itself, pipelined; replies in their order."""
        units = [Unit([c], self.slot_for(c), i) for i, c in enumerate(commands)]
        replies = [None] * len(units)
        for u, r in self.run(units):
            if r is None:
                raise Closed("connection lost before the answer to %r" % (u.commands[0][:3],))
            replies[u.note] = r[0]
        for c, r in zip(commands, replies):
            if raising and isinstance(r, ReplyError):
                raise ReplyError("%r: %s" % (c[:3], r))
        return replies

    def feed(self, commands, batch=500):
        """Any number of commands in batches."""
        part = []
        for c in commands:
            part.append(c)
            if len(part) == batch:
                self.calls(part)
                part = []
        if part:
            self.calls(part)

    def slot_for(self, args):
        key = first_key(args) if self.cluster else None
        return None if key is None else slot_of(key)

    def everywhere(self, *args):
        """To each primary; the replies."""
        self.refresh()
        return [self.conn(a).call(*args) for a in sorted(set(self.owners.values()))]
