# SPDX-License-Identifier: BSD-3-Clause
# A small pipelined RESP2 client, so that the tests judge by bytes they read themselves.
import socket
import ssl
import time


class ReplyError(Exception):
    """An error reply of the server, as a value or raised by Client.call()."""

    def __eq__(self, other):
        return isinstance(other, ReplyError) and self.args == other.args

    def __hash__(self):
        return hash(self.args)


class Closed(ConnectionError):
    pass


def encode(args):
    out = [b"*%d\r\n" % len(args)]
    for a in args:
        if isinstance(a, str):
            a = a.encode()
        elif isinstance(a, (int, float)):
            a = repr(a).encode()
        out.append(b"$%d\r\n" % len(a))
        out.append(a)
        out.append(b"\r\n")
    return b"".join(out)


class Client:
    """One connection. address: ("host", port) or a path of a Unix socket."""

    def __init__(self, address, db=0, user=None, password=None, tls=None, timeout=60):
        self.address = address
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(timeout)
            self.sock.connect(address)
        else:
            self.sock = socket.create_connection(address, timeout)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            ctx = ssl.create_default_context(cafile=tls.get("ca"))
            ctx.check_hostname = False
            if tls.get("cert"):
                ctx.load_cert_chain(tls["cert"], tls["key"])
            self.sock = ctx.wrap_socket(self.sock)
        self.buf = b""
        self.pos = 0
        if password is not None:
            self.call("AUTH", *([user] if user else []), password)
        if db:
            self.call("SELECT", db)

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    # -- reading -------------------------------------------------------------------------------
    def fill(self, want=1):
        """Have at least `want` unread bytes."""
        have = len(self.buf) - self.pos
        parts = [self.buf[self.pos:]]
        while have < want:
            data = self.sock.recv(max(262144, min(want - have, 1 << 24)))
            if not data:
                raise Closed("connection closed by the server")
            parts.append(data)
            have += len(data)
        self.buf = b"".join(parts)
        self.pos = 0

    def line(self):
        while True:
            i = self.buf.find(b"\r\n", self.pos)
            if i >= 0:
                line = self.buf[self.pos:i]
                self.pos = i + 2
                return line
            self.fill(len(self.buf) - self.pos + 1)

    def read(self):
        line = self.line()
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            n = int(rest)
            return None if n < 0 else self.body(n)
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest
        if kind == b"*":
            n = int(rest)
            return None if n < 0 else self.array(n)
        if kind == b"-":
            return ReplyError(rest.decode(errors="replace"))
        raise ValueError("not RESP: %r" % line[:40])

    def body(self, n):
        if len(self.buf) - self.pos < n + 2:
            self.fill(n + 2)
        v = self.buf[self.pos:self.pos + n]
        self.pos += n + 2
        return v

    def array(self, n):
        """Elements of an array; the common case, bulk strings in hand, goes fast."""
        out = []
        add = out.append
        for _ in range(n):
            buf, p = self.buf, self.pos
            if buf[p:p + 1] == b"$":
                i = buf.find(b"\r\n", p, p + 24)
                if i > 0:
                    size = int(buf[p + 1:i])
                    end = i + 2 + size
                    if size >= 0 and end + 2 <= len(buf):
                        add(buf[i + 2:end])
                        self.pos = end + 2
                        continue
            add(self.read())
        return out

    # -- writing -------------------------------------------------------------------------------
    def send(self, data):
        self.sock.sendall(data)

    def call(self, *args):
        self.send(encode(args))
        r = self.read()
        if isinstance(r, ReplyError):
            raise r
        return r

    def pipeline(self, commands, raising=True):
        """Send all, then read all replies. Keep a batch below some MB: the server must not block."""
        commands = list(commands)
        self.send(b"".join(encode(c) for c in commands))
        replies = [self.read() for _ in commands]
        if raising:
            for c, r in zip(commands, replies):
                if isinstance(r, ReplyError):
                    raise ReplyError("%r: %s" % (c[:3], r))
        return replies

    def feed(self, commands, batch=500, raising=True, batch_bytes=4 << 20):
        """Pipeline any number of commands in batches; the number of error replies."""
        errors, buf, n, size = 0, [], 0, 0

        def flush():
            nonlocal errors, buf, n, size
            self.send(b"".join(buf))
            for _ in range(n):
                r = self.read()
                if isinstance(r, ReplyError):
                    if raising:
                        raise r
                    errors += 1
            buf, n, size = [], 0, 0

        for c in commands:
            e = encode(c)
            buf.append(e)
            n += 1
            size += len(e)
            if n >= batch or size >= batch_bytes:
                flush()
        if n:
            flush()
        return errors

    def info(self, section="everything"):
        out = {}
        for line in self.call("INFO", section).decode(errors="replace").splitlines():
            if ":" in line and not line.startswith("#"):
                k, v = line.split(":", 1)
                out[k] = v
        return out


def wait_for(what, timeout=30, every=0.02):
    """Poll what() until it is true; its value. Fails with its name in time, never hangs."""
    end = time.monotonic() + timeout
    while True:
        v = what()
        if v:
            return v
        if time.monotonic() > end:
            raise TimeoutError("gave up after %g s: %s" % (timeout, getattr(what, "__doc__", None)
                                                           or what.__name__))
        time.sleep(every)
