# SPDX-License-Identifier: BSD-3-Clause
# A primary that is not what it seems: it answers PSYNC with a snapshot and a stream of our making.
#
# All other commands are passed to a real server behind it, so it looks like one, only that its
# version may be another. This is how the streams of old versions (relative expiries) and hostile
# bytes are made without such servers.
import re
import socket
import struct
import threading

from .resp import Client, encode
from .resp import wait_for

REPLID = "f" * 40


def crc64_table():
    poly = 0x95AC9329AC4BC9B5  # Jones, reflected
    table = []
    for i in range(256):
        c = i
        for _ in range(8):
            c = (c >> 1) ^ poly if c & 1 else c >> 1
        table.append(c)
    return table


_CRC = crc64_table()


def crc64(data, crc=0):
    for b in data:
        crc = _CRC[(crc ^ b) & 0xFF] ^ (crc >> 8)
    return crc


def rdb_len(n):
    if n < 64:
        return bytes([n])
    if n < 16384:
        return bytes([0x40 | n >> 8, n & 0xFF])
    return b"\x80" + struct.pack(">I", n)


def rdb_str(s):
    s = s.encode() if isinstance(s, str) else s
    return rdb_len(len(s)) + s


def rdb_string_record(key, value):
    return b"\0" + rdb_str(key) + rdb_str(value)


def rdb_file(body=b"", version=9, checksum=None):
    """A whole snapshot; body: records, by default of database 0."""
    data = b"REDIS%04d" % version + b"\xfa" + rdb_str("redis-ver") + rdb_str("6.0.16")
    if body:
        data += b"\xfe\0\xfb\x02\0" + body
    data += b"\xff"
    crc = crc64(data) if checksum is None else checksum
    return data + struct.pack("<Q", crc)


class FakePrimary:
    """rdb: bytes of the snapshot. announce: the size said, if not the true one. diskless: $EOF form."""

    def __init__(self, real, rdb=None, version="6.0.16", announce=None, diskless=False,
                 psync_reply=None, close_after_rdb=False):
        self.real = real
        self.rdb = rdb_file() if rdb is None else rdb
        self.fake_version = version
        self.announce = announce
        self.diskless = diskless
        self.psync_reply = psync_reply
        self.close_after_rdb = close_after_rdb
        self.acks = []
        self.links = []
        self.sent = 0
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    # what the harness expects of a source
    unix = False
    password = None

    def uri(self):
        return "redis://127.0.0.1:%d" % self.port

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        reader = Client.__new__(Client)  # its parser reads requests as well as replies
        reader.sock, reader.buf, reader.pos = sock, b"", 0
        try:
            with self.real.connect() as behind:
                while True:
                    request = reader.read()
                    if not isinstance(request, list):
                        continue
                    name = request[0].upper()
                    if name in (b"PSYNC", b"SYNC"):
                        self.sync(sock)
                    elif name == b"REPLCONF":
                        self.replconf(sock, request)
                    else:
                        self.forward(sock, behind, request, name)
        except (OSError, ValueError):
            pass
        finally:
            sock.close()

    def replconf(self, sock, request):
        if request[1].upper() == b"ACK":
            self.acks.append(int(request[2]))
        else:
            sock.sendall(b"+OK\r\n")

    def forward(self, sock, behind, request, name):
        behind.send(encode(request))
        raw = raw_reply(behind)
        if name == b"INFO":
            body = raw.split(b"\r\n", 1)[1][:-2]
            body = re.sub(rb"redis_version:[^\r]*", b"redis_version:" + self.fake_version.encode(),
                          body)
            body = re.sub(rb"master_repl_offset:\d+", b"master_repl_offset:%d" % self.sent, body)
            body = re.sub(rb"(run_id|master_replid):([0-9a-f]{20})", rb"\1:" + b"f" * 20, body)
            raw = b"$%d\r\n%s\r\n" % (len(body), body)
        sock.sendall(raw)

    def sync(self, sock):
        if self.psync_reply is not None:
            sock.sendall(self.psync_reply)
            return
        sock.sendall(b"+FULLRESYNC %s 0\r\n\n" % REPLID.encode())
        mark = b"m" * 40
        if self.diskless:
            sock.sendall(b"$EOF:" + mark + b"\r\n" + self.rdb + mark)
        else:
            n = len(self.rdb) if self.announce is None else self.announce
            sock.sendall(b"$%d\r\n" % n + self.rdb)
        if self.close_after_rdb:
            raise OSError("as told")
        with self.lock:
            self.links.append(sock)

    # -- the stream ----------------------------------------------------------------------------
    def wait_replica(self, timeout=20):
        def attached():
            """a replica attached to the fake primary"""
            return self.links
        wait_for(attached, timeout)

    def stream(self, *commands):
        self.stream_bytes(b"".join(encode(c) for c in commands))

    def stream_bytes(self, data):
        self.wait_replica()
        with self.lock:
            self.sent += len(data)
            for s in self.links:
                try:
                    s.sendall(data)
                except OSError:
                    pass

    def hang_up(self):
        with self.lock:
            links, self.links = self.links, []
        for s in links:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()
        self.hang_up()


def raw_reply(c):
    """The bytes of one reply."""
    line = c.line()
    raw = line + b"\r\n"
    if line[:1] == b"$" and int(line[1:]) >= 0:
        raw += c.body(int(line[1:])) + b"\r\n"
    elif line[:1] == b"*":
        for _ in range(max(int(line[1:]), 0)):
            raw += raw_reply(c)
    return raw
