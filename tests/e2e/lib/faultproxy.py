# SPDX-License-Identifier: BSD-3-Clause
# A TCP proxy that misbehaves on demand: cut, reset, stall, delay, throttle, deliver late, forget.
import collections
import selectors
import socket
import struct
import threading
import time

CHUNK = 65536
WINDOW = 65536       # taken from one side before the other has taken it
HOARD = 64 << 20     # the same while it hoards
WAYS = ("up", "down")


def reset_socket(s):
    """Close with RST, where the kind of socket knows that."""
    try:
        if s.family != socket.AF_UNIX:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    except OSError:
        pass


def close_socket(s):
    """Close in good order."""
    try:
        s.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    s.close()


class Flow:
    """One direction of one connection: what was taken from src and dst has not got yet."""

    def __init__(self, proxy, src, dst, way):
        self.proxy, self.src, self.dst, self.way = proxy, src, dst, way
        self.waiting = collections.deque()  # (when it may go, bytes)
        self.size = 0
        self.ended = False   # src says no more
        self.over = False    # and dst has been told, or cannot be told
        self.hoards = False  # takes everything, delivers nothing
        self.last = 0.0      # when the last chunk may go

    def stalled(self):
        return self.way in self.proxy.stalled

    def wants_read(self):
        if self.ended:
            return False
        return self.size < HOARD if self.hoards else self.size < WINDOW and not self.stalled()

    def wants_write(self, now):
        return bool(self.waiting and not self.hoards and not self.stalled() and
                    self.waiting[0][0] <= now)

    def take(self, now):
        try:
            data = self.src.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.ended = True
            return
        p = self.proxy
        old, new = p.rewrite.get(self.way, (None, None))
        if old and old in data:
            data = data.replace(old, new, 1)
            del p.rewrite[self.way]
        self.last = max(now, self.last) + p.delay_s
        if p.bytes_per_s:
            self.last += len(data) / p.bytes_per_s
        self.waiting.append((self.last, data))
        self.size += len(data)

    def give(self):
        """Deliver the first chunk, or what may pass of it; True: a limit has been met."""
        when, data = self.waiting.popleft()
        p = self.proxy
        limit = p.cut_after.get(self.way)
        left = len(data) if limit is None else max(0, min(len(data), limit - p.passed[self.way]))
        left = self.up_to_mark(data, left)
        try:
            n = self.dst.send(data[:left]) if left else 0
        except BlockingIOError:
            n = 0
        except OSError:
            self.drop()
            return False
        p.passed[self.way] += n
        self.size -= n
        if n < len(data):
            self.waiting.appendleft((when, data[n:]))
        return n == left < len(data) and not self.hoards

    def up_to_mark(self, data, left):
        mark = self.proxy.hold_behind.get(self.way)
        at = data.find(mark) if mark else -1
        if at < 0 or at + len(mark) > left:
            return left
        del self.proxy.hold_behind[self.way]
        self.hoards = True
        return at + len(mark)

    def drop(self):
        self.waiting.clear()
        self.size = 0
        self.ended = self.over = True

    def end(self):
        """Nothing more to deliver: say so on the other side."""
        self.over = True
        try:
            self.dst.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class Link:
    """A connection: both its sockets and both its directions."""

    def __init__(self, proxy, client, server):
        self.client, self.server = client, server
        self.up = Flow(proxy, client, server, "up")
        self.down = Flow(proxy, server, client, "down")
        self.flows = (self.up, self.down)
        self.forgotten = False  # one side is gone and the other is not to hear of it
        for s in (client, server):
            s.setblocking(False)
            if s.family != socket.AF_UNIX:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class FaultProxy:
    """Listens on a loopback port of its own and forwards to `address`.

    Ways: "up" is towards the server, "down" back to the client. All knobs may be turned while
    it runs. cut_after[way] = n cuts every connection once n bytes went that way in all.
    hold_behind[way] = bytes: what follows them on that connection waits for release().
    rewrite[way] = (old, new): where it comes next in what is received at once, once."""

    def __init__(self, address):
        self.address = address
        self.lock = threading.RLock()
        self.stalled = set()
        self.passed = {"up": 0, "down": 0}
        self.cut_after = {}
        self.cut_with_reset = False
        self.hold_behind = {}
        self.rewrite = {}
        self.delay_s = 0.0
        self.bytes_per_s = 0
        self.refuse = False
        self.links = []
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        self.selector = selectors.DefaultSelector()
        self.interest = {}  # socket -> events registered
        self.closed = False
        self.watch(self.listener, selectors.EVENT_READ)
        self.wake, self.waker = socket.socketpair()
        self.waker.setblocking(False)
        self.watch(self.wake, selectors.EVENT_READ)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    # -- the loop ------------------------------------------------------------------------------
    def run(self):
        while True:
            with self.lock:
                if self.closed:
                    return
                wait = self.prepare(time.monotonic())
            events = self.selector.select(wait)
            with self.lock:
                if self.closed:
                    return
                self.serve({k.fileobj for k, _ in events})

    def prepare(self, now):
        """Ask for the events that are of use now; seconds until something is due by itself."""
        wait = 0.05
        for link in self.links:
            want = {link.client: 0, link.server: 0}
            for f in () if link.forgotten else link.flows:
                if f.wants_read():
                    want[f.src] |= selectors.EVENT_READ
                if f.wants_write(now):
                    want[f.dst] |= selectors.EVENT_WRITE
                elif f.waiting:
                    wait = min(wait, max(0.001, f.waiting[0][0] - now))
            for s, events in want.items():
                self.watch(s, events)
        return wait

    def watch(self, s, events):
        """An event that nobody wants is not registered: the end of a connection always is one."""
        if s.fileno() < 0 or self.interest.get(s, 0) == events:
            return
        if not events:
            self.selector.unregister(s)
            del self.interest[s]
        elif s in self.interest:
            self.selector.modify(s, events)
            self.interest[s] = events
        else:
            self.selector.register(s, events)
            self.interest[s] = events

    def serve(self, ready):
        if self.wake in ready:
            self.wake.recv(4096)
        if self.listener in ready:
            self.accept()
        now = time.monotonic()
        for link in list(self.links):
            if link.forgotten:
                continue
            for f in link.flows:
                took = f.src in ready and f.wants_read()
                if took:
                    f.take(now)
                if (took or f.dst in ready) and f.wants_write(now) and f.give():
                    self.cut(self.cut_with_reset)
                    return
                if f.ended and not f.over and not f.waiting and not f.hoards and not f.stalled():
                    f.end()
            if link.up.over and link.down.over:
                self.remove(link, close_socket)

    def accept(self):
        try:
            client, _ = self.listener.accept()
        except OSError:
            return
        self.connections += 1
        try:
            if self.refuse:
                raise OSError("told to")
            if isinstance(self.address, str):
                server = socket.socket(socket.AF_UNIX)
                server.connect(self.address)
            else:
                server = socket.create_connection(self.address, 5)
        except OSError:
            client.close()
            return
        self.links.append(Link(self, client, server))

    def remove(self, link, close):
        if link in self.links:
            self.links.remove(link)
        for s in (link.client, link.server):
            self.watch(s, 0)
            close(s)

    def nudge(self):
        try:
            self.waker.send(b"!")
        except OSError:
            pass

    # -- knobs ---------------------------------------------------------------------------------
    def stall(self, *ways):
        """Nothing passes until resume(); the connections stay up, new ones stall as well."""
        with self.lock:
            self.stalled |= set(ways or WAYS)
        self.nudge()

    def resume(self):
        with self.lock:
            self.stalled.clear()
        self.nudge()

    def hoard(self, *ways):
        """What comes over today's connections is taken, and delivered at release(): even when the
        one who sent it has gone long since. New connections pass."""
        with self.lock:
            for link in self.links:
                for w in ways or WAYS:
                    getattr(link, w).hoards = True
        self.nudge()

    def release(self):
        with self.lock:
            for link in self.links:
                link.up.hoards = link.down.hoards = False
        self.nudge()

    def forget(self, side):
        """Half-open: that side ("client", "server") sees a reset, the other hears nothing more."""
        with self.lock:
            for link in self.links:
                s = getattr(link, side)
                for x in (link.client, link.server):
                    self.watch(x, 0)
                link.forgotten = True
                reset_socket(s)
        self.nudge()

    def cut(self, reset=False):
        """End every connection, with RST or in good order."""
        with self.lock:
            for link in list(self.links):
                self.remove(link, reset_socket if reset else close_socket)
        self.nudge()

    def uri(self):
        return "redis://127.0.0.1:%d" % self.port

    def close(self):
        with self.lock:
            if self.closed:
                return
            self.cut()
            self.closed = True
        self.nudge()
        self.thread.join(5)
        for s in (self.listener, self.wake, self.waker, self.selector):
            s.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
