#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# The simplest mover that could be right, with keyhaul's command line: proves that the chaos suite
# can be passed, and, broken on purpose in one way ($PLAINMOVER_BREAK), that it finds just that.
#
# Checkpoint and fence as in docs/decisions/0003, but no spool: what was lost is always asked of the
# source again. It holds no deadlines: keys that die soon are beyond it. $PLAINMOVER_BREAK:
#
#   drop, double   one write of 3000 is left out, or done twice
#   loose, early   the checkpoint is written after the transaction, or before it
#   split          transactions of the source are not kept whole
#   nofence        what a link given up has still to deliver counts
#   memory         where to go on is taken from its own memory, not from the target
#   late           deadlines are 7 ms late
#   nosweep, sweepall, empty   a repeated snapshot: nothing is deleted; foreign keys as well; all
#                  before it is loaded
#   again          each start begins with a snapshot
#   conflict       a load that was interrupted is refused as a conflict
#   ahead          what was received is acknowledged, not what has been applied
#   nolock         a second process of the task is not refused
#   overflow       every reconnection is a new snapshot
import argparse
import fcntl
import json
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time

if __package__ in (None, ""):
    # in place of this folder, where an inspect.py would go before Python's own
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
from lib.compare import scan_keys  # noqa: E402
from lib.resp import Client, ReplyError, encode  # noqa: E402
from lib.server import Server  # noqa: E402

BROKEN = os.environ.get("PLAINMOVER_BREAK", "")
BATCH_BYTES = 128 << 10
PASSING = ("READONLY", "LOADING", "MISCONF", "OOM", "NOREPLICAS", "MASTERDOWN", "BUSY", "EXECABORT")


class Lost(Exception):
    """Begin again with new connections."""


class Ended(Exception):
    """For good, with these words."""


class Stopped(Exception):
    pass


def milliseconds(text):
    n, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", text).groups()
    return int(n) * {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}[unit]


def addresses(uri):
    hosts = uri.split("://", 1)[1].split("/")[0].rsplit("@", 1)[-1]
    return [(h, int(p)) for h, p in (x.rsplit(":", 1) for x in hosts.split(","))]


def passing(e):
    return str(e).split(" ", 1)[0] in PASSING


def next_command(buf, at):
    """(arguments, where it ends), or (None, 0) as long as it is not whole."""
    args, count, i = [], 1, at
    while len(args) < count:
        end = buf.find(b"\r\n", i)
        if end < 0:
            return None, 0
        n = int(buf[i + 1:end])
        if i == at:
            count, i = n, end + 2
            continue
        if len(buf) < end + 2 + n + 2:
            return None, 0
        args.append(buf[end + 2:end + 2 + n])
        i = end + 2 + n + 2
    return args, i


class Mover:
    def __init__(self, opts):
        self.opts = opts
        self.io_s = milliseconds(opts.io_timeout) / 1000
        self.key = ("keyhaul:checkpoint:" + opts.task).encode()
        self.owner = ""
        self.dir = os.path.join(opts.state_dir, opts.task)
        os.makedirs(self.dir, mode=0o700, exist_ok=True)
        self.counters = dict.fromkeys(("snapshots", "commands_written", "bytes_read", "errors",
                                       "retries", "waits_ms"), 0)
        self.phase = "connect"
        self.stopping = False
        self.taken_over = False
        self.remembered = None
        self.ack_due = 0
        self.rng = random.Random(1)
        self.source = self.target = None

    # -- the folder ----------------------------------------------------------------------------
    def lock(self):
        self.lock_file = open(os.path.join(self.dir, "lock"), "a+")
        if BROKEN == "nolock":
            return
        try:
            fcntl.flock(self.lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Ended("task %s is already running" % self.opts.task)

    def load_state(self):
        try:
            with open(os.path.join(self.dir, "state.json")) as f:
                state = json.load(f)
        except FileNotFoundError:
            state = {"snapshots": 0, "existing": None, "loading": False}
        self.counters["snapshots"] = state["snapshots"]
        self.existing, self.loading = state["existing"], state["loading"]

    def save_state(self):
        path = os.path.join(self.dir, "state.json")
        with open(path + ".new", "w") as f:
            json.dump({"snapshots": self.counters["snapshots"], "existing": self.existing,
                       "loading": self.loading}, f)
        os.replace(path + ".new", path)

    def write_metrics(self):
        path = self.opts.metrics_file
        if path:
            with open(path + ".new", "w") as f:
                json.dump({"phase": self.phase, "counters": self.counters}, f)
            os.replace(path + ".new", path)

    # -- connections ---------------------------------------------------------------------------
    def call_up(self, hosts, timeout, primary):
        last = OSError("no address")
        for host in hosts:
            try:
                c = Client(host, timeout=timeout)
            except OSError as e:
                last = e
                continue
            try:
                if not primary or c.call("ROLE")[0] == b"master":
                    return c
                last = Lost("no primary")
            except (OSError, ReplyError) as e:
                last = e
            c.close()
        raise Lost(str(last))

    def connect(self):
        self.disconnect()
        self.target = self.call_up(addresses(self.opts.target), self.io_s, True)
        self.source = self.call_up(addresses(self.opts.source), self.io_s, True)
        self.source.call("REPLCONF", "listening-port", 0)
        self.source.call("REPLCONF", "capa", "eof", "capa", "psync2")

    def disconnect(self):
        for c in (self.source, self.target):
            if c:
                c.close()
        self.source = self.target = None

    # -- the task ------------------------------------------------------------------------------
    def run(self):
        self.lock()
        self.load_state()
        while not self.stopping:
            try:
                self.connect()
                self.session()
            except (OSError, Lost) as e:
                self.counters["retries"] += 1
                print("lost: %s" % e, file=sys.stderr, flush=True)
            except ReplyError as e:
                if not passing(e):
                    raise Ended("refused: %s" % e)
                print("waiting: %s" % e, file=sys.stderr, flush=True)
            except Stopped:
                break
            time.sleep(0.1)
        self.phase = "done"
        self.write_metrics()

    def session(self):
        value = self.take_over()
        replid, offset = "?", -1
        self.db = 0
        if value and value[1] == "stream" and BROKEN != "overflow" and not (
                BROKEN == "again" and not self.taken_over):
            replid, offset, self.db = value[3], int(value[4]) + 1, int(value[5])
            if BROKEN == "memory" and self.remembered:
                replid, offset, self.db = self.remembered
        self.taken_over = True
        self.source.send(encode(("PSYNC", replid, offset)))
        reply = b""
        while not reply:
            reply = self.source.line()
        words = reply.decode().split()
        if words[0] == "+CONTINUE":
            self.replid = words[1] if len(words) > 1 else replid
            self.offset = offset - 1
        elif words[0] == "+FULLRESYNC":
            self.replid, self.offset = words[1], int(words[2])
            self.snapshot(first=value is None and not self.loading)
        else:
            raise Lost(reply.decode())
        self.stream()

    def take_over(self):
        """The checkpoint's words, None: there is none. From here on it is ours. Owners are numbered:
        a failover of the target may bring back the one before us, which is not one that has taken
        over from us."""
        while True:
            self.target.call("WATCH", self.key)
            value = self.target.call("GET", self.key)
            value = value.decode().split() if value else None
            before = int(value[2][:4], 16) if value else 0
            if not self.owner:
                self.owner = "%04x%04x" % (before + 1, random.randrange(1 << 16))
            elif value and value[2] != self.owner and before >= int(self.owner[:4], 16):
                raise Ended("another process has taken this task over")
            if value is None or BROKEN == "nofence":
                self.target.call("UNWATCH")
                return value
            value[2] = self.owner
            # what the one before us wrote since we looked must not be forgotten
            if self.target.pipeline([("MULTI",), ("SET", self.key, " ".join(value)),
                                     ("EXEC",)])[2] is not None:
                return value

    # -- snapshot ------------------------------------------------------------------------------
    def snapshot(self, first):
        self.phase = "snapshot"
        if first:
            self.note_existing()
        elif BROKEN == "conflict" and self.loading:
            raise Ended("keys exist already")
        print("a snapshot%s" % ("" if first else ", reconciled"), file=sys.stderr, flush=True)
        self.counters["snapshots"] += 1
        self.loading = True
        self.save_state()
        self.target.call("SET", self.key, "1 loading %s" % self.owner)
        if BROKEN == "empty" and not first:
            self.target.call("FLUSHALL")
        with Server(name="plain") as helper:
            helper.kill()
            self.receive(os.path.join(helper.dir, "dump.rdb"))
            helper.restart()
            self.copy(helper)
        self.target.call("SELECT", 0)
        self.target.call("SET", self.key, self.checkpoint())
        self.loading = False
        self.save_state()

    def note_existing(self):
        """Keys that are not the task's to delete; here under the policy `fail`, so none of the
        source's either."""
        self.existing = {}
        for db in range(16):
            self.target.call("SELECT", db)
            keys = scan_keys(self.target)
            if keys:
                self.existing[str(db)] = sorted(k.hex() for k in keys)
        self.target.call("SELECT", 0)

    def receive(self, path):
        s, line = self.source, b""
        while not line:
            line = s.line()
        with open(path, "wb") as f:
            if line.startswith(b"$EOF:"):
                self.receive_until(f, line[5:])
                return
            left = int(line[1:])
            while left:
                if s.pos == len(s.buf):
                    s.fill()
                part = s.buf[s.pos:s.pos + left]
                s.pos += len(part)
                left -= len(part)
                f.write(part)
                self.counters["bytes_read"] += len(part)

    def receive_until(self, f, mark):
        s, tail = self.source, b""
        while True:
            if s.pos == len(s.buf):
                s.fill()
            tail += s.buf[s.pos:]
            self.counters["bytes_read"] += len(s.buf) - s.pos
            s.pos = len(s.buf)
            at = tail.find(mark)
            if at >= 0:
                f.write(tail[:at])
                s.buf, s.pos = tail[at + len(mark):], 0
                return
            f.write(tail[:-len(mark)])
            tail = tail[-len(mark):]

    def copy(self, helper):
        with helper.connect() as h:
            self.target.call("FUNCTION", "RESTORE", h.call("FUNCTION", "DUMP"), "FLUSH")
            for db in range(16):
                h.call("SELECT", db)
                self.target.call("SELECT", db)
                keys = sorted(scan_keys(h))
                for i in range(0, len(keys), 50):
                    self.copy_some(h, keys[i:i + 50])
                if self.counters["snapshots"] > 1 and BROKEN != "nosweep":
                    self.sweep(db, set(keys))

    def copy_some(self, h, keys):
        self.check_stop()
        values = h.pipeline([q for k in keys for q in (("DUMP", k), ("PEXPIRETIME", k))])
        for r in self.target.pipeline([("RESTORE", k, max(values[2 * i + 1], 0), values[2 * i],
                                        "REPLACE", "ABSTTL") for i, k in enumerate(keys)
                                       if values[2 * i]], raising=False):
            if isinstance(r, ReplyError):
                raise r
        self.write_metrics()

    def sweep(self, db, keys):
        foreign = {bytes.fromhex(k) for k in (self.existing or {}).get(str(db), ())}
        if BROKEN == "sweepall":
            foreign = set()
        for k in scan_keys(self.target) - keys - foreign - {self.key}:
            self.target.call("DEL", k)

    # -- stream --------------------------------------------------------------------------------
    def checkpoint(self):
        return "1 stream %s %s %d %d" % (self.owner, self.replid, self.offset, self.db)

    def check_stop(self):
        if self.stopping:
            raise Stopped

    def stream(self):
        self.phase = "stream"
        self.source.sock.settimeout(0.1)
        self.unwritten = time.monotonic()
        self.target.pipeline([("SELECT", 0), ("WATCH", self.key), ("SELECT", self.db)])
        self.heard = time.monotonic()
        self.inbox, self.at = self.source.buf[self.source.pos:], 0
        while True:
            self.check_stop()
            acks = self.acknowledge()
            batch = self.next_batch()
            if batch:
                if BROKEN == "ahead":
                    self.acknowledge(sum(len(data) for _, _, data in batch))
                self.apply(batch)
            if acks:
                self.write_metrics()

    def acknowledge(self, ahead=0):
        if not ahead and time.monotonic() < self.ack_due:
            return False
        self.ack_due = time.monotonic() + 0.1
        self.source.send(encode(("REPLCONF", "ACK", self.offset + ahead)))
        return True

    def next_batch(self):
        """Whole commands, whole transactions; empty when there is nothing."""
        out, size, group = [], 0, False
        while group or size < BATCH_BYTES:
            command, end = next_command(self.inbox, self.at)
            if command is None:
                if (out and not group) or (not self.receive_more() and not group):
                    break
                continue
            data = self.inbox[self.at:end]
            self.at = end
            self.counters["bytes_read"] += len(data)
            name = command[0].upper()
            group = (group or name == b"MULTI") and name != b"EXEC"
            out.append((name, command, data))
            size += len(data)
        return out

    def receive_more(self):
        try:
            data = self.source.sock.recv(1 << 20)
        except TimeoutError:
            if time.monotonic() - self.heard > self.io_s:
                raise Lost("the source says nothing")
            return False
        if not data:
            raise Lost("the source has closed the link")
        self.heard = time.monotonic()
        self.inbox, self.at = self.inbox[self.at:] + data, 0
        return True

    def apply(self, batch):
        moved = [(name, self.distort(name, command, data)) for name, command, data in batch
                 if name not in (b"MULTI", b"EXEC", b"PING", b"REPLCONF")]
        self.offset += sum(len(data) for _, _, data in batch)
        for name, command, _ in batch:
            if name == b"SELECT":
                self.db = int(command[1])
        if BROKEN == "early":
            self.write_checkpoint()
        head, tail = self.frame()
        data = [d for _, d in moved]
        if BROKEN == "split":
            while len(data) > 20:
                self.transaction(data[:20], [], [])
                data = data[20:]
        self.transaction(data, head, tail)
        self.remembered = self.replid, self.offset + 1, self.db
        self.counters["commands_written"] += len(moved)
        if BROKEN == "loose" and time.monotonic() - self.unwritten > 0.5:
            self.write_checkpoint()
            self.unwritten = time.monotonic()

    def frame(self):
        """What writes the checkpoint in a transaction."""
        if BROKEN in ("loose", "early"):
            return [], []
        return [encode(("SELECT", 0)), encode(("SET", self.key, self.checkpoint()))], \
            [encode(("SELECT", self.db))]

    def write_checkpoint(self):
        self.target.pipeline([("SELECT", 0), ("SET", self.key, self.checkpoint()),
                              ("UNWATCH",), ("WATCH", self.key), ("SELECT", self.db)])

    def transaction(self, data, head, tail):
        commands = [encode(("MULTI",)), *data, *head, *tail, encode(("EXEC",)),
                    encode(("SELECT", 0)), encode(("WATCH", self.key)), encode(("GET", self.key)),
                    encode(("SELECT", self.db))]
        if BROKEN == "nofence":
            commands = [c for c in commands if not c.startswith(b"*2\r\n$5\r\nWATCH")]
        answers = []
        sender = threading.Thread(target=self.send_all, args=(b"".join(commands),), daemon=True)
        sender.start()
        for _ in commands:
            answers.append(self.target.read())
        sender.join()
        done = answers[1 + len(data) + len(head) + len(tail)]
        if done is None:
            raise Lost("fenced off")
        for r in [done] if isinstance(done, ReplyError) else done:
            if isinstance(r, ReplyError):
                if not BROKEN or passing(r):
                    raise r
                self.counters["errors"] += 1  # one that is broken is not to notice it by itself
        owner = answers[-2].split()[2].decode() if answers[-2] else self.owner
        if BROKEN != "nofence" and owner != self.owner:
            raise Ended("another process has taken this task over")

    def send_all(self, data):
        try:
            self.target.send(data)
        except OSError:
            pass  # the one who reads sees it too

    def distort(self, name, command, data):
        """The command as it is; broken, sometimes something else."""
        if BROKEN == "drop" and name != b"SELECT" and self.rng.random() < 1 / 3000:
            return encode(("PING",))
        if BROKEN == "double" and name in (b"RPUSH", b"INCR") and self.rng.random() < 1 / 1000:
            return encode(("EVAL", "redis.call(unpack(ARGV)) redis.call(unpack(ARGV))", 0,
                           *command))
        if BROKEN == "late" and name == b"PEXPIREAT":
            return encode((command[0], command[1], int(command[2]) + 7, *command[3:]))
        return data


def parse(argv):
    p = argparse.ArgumentParser()
    p.add_argument("command", choices=("migrate",))
    p.add_argument("--source", required=True)
    p.add_argument("--target", required=True)
    p.add_argument("--task", default="plain")
    p.add_argument("--state-dir", default=tempfile.gettempdir())
    p.add_argument("--metrics-file")
    p.add_argument("--io-timeout", default="60s")
    return p.parse_known_args(argv)[0]


def main():
    m = Mover(parse(sys.argv[1:]))

    def stop(*_):
        m.stopping = True
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        m.run()
    except Ended as e:
        print("error: %s" % e, file=sys.stderr)
        return 1
    finally:
        m.disconnect()
    return 0


if __name__ == "__main__":
    sys.exit(main())
