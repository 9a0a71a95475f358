# SPDX-License-Identifier: BSD-3-Clause
# A TCP proxy that misbehaves on demand: cut, reset, stall, delay, throttle.
import socket
import struct
import threading
import time


class Pump(threading.Thread):
    """Copies one direction of one connection."""

    def __init__(self, proxy, src, dst, way):
        super().__init__(daemon=True)
        self.proxy, self.src, self.dst, self.way = proxy, src, dst, way

    def run(self):
        try:
            while True:
                data = self.src.recv(65536)
                if not data:
                    break
                self.forward(data)
        except OSError:
            pass
        for s in (self.dst, self.src):
            try:
                s.shutdown(socket.SHUT_WR if s is self.dst else socket.SHUT_RD)
            except OSError:
                pass

    def forward(self, data):
        p = self.proxy
        p.flow[self.way].wait()
        if p.delay_s:
            time.sleep(p.delay_s)
        if p.bytes_per_s:
            time.sleep(len(data) / p.bytes_per_s)
        with p.lock:
            limit = p.cut_after.get(self.way)
            left = len(data) if limit is None else min(len(data), limit - p.passed[self.way])
            p.passed[self.way] += max(left, 0)
        if left > 0:
            self.dst.sendall(data[:left])
        if left < len(data):
            p.cut(reset=p.cut_with_reset)
            raise OSError("cut")


class FaultProxy:
    """Listens on a loopback port of its own and forwards to `address`.

    Ways: "up" is towards the server, "down" back to the client. All knobs may be turned while
    it runs. cut_after[way] = n cuts every connection once n bytes went that way in all."""

    def __init__(self, address):
        self.address = address
        self.lock = threading.Lock()
        self.flow = {"up": threading.Event(), "down": threading.Event()}
        for e in self.flow.values():
            e.set()
        self.passed = {"up": 0, "down": 0}
        self.cut_after = {}
        self.cut_with_reset = False
        self.delay_s = 0.0
        self.bytes_per_s = 0
        self.refuse = False
        self.socks = []
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            if self.refuse:
                client.close()
                continue
            try:
                if isinstance(self.address, str):
                    server = socket.socket(socket.AF_UNIX)
                    server.connect(self.address)
                else:
                    server = socket.create_connection(self.address)
            except OSError:
                client.close()
                continue
            for s in (client, server):
                if s.family != socket.AF_UNIX:
                    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.socks += [client, server]
            Pump(self, client, server, "up").start()
            Pump(self, server, client, "down").start()

    def stall(self, *ways):
        """Nothing passes until resume(); the connections stay up."""
        for w in ways or ("up", "down"):
            self.flow[w].clear()

    def resume(self):
        for e in self.flow.values():
            e.set()

    def cut(self, reset=False):
        """End every connection, with RST or in good order."""
        with self.lock:
            socks, self.socks = self.socks, []
        for s in socks:
            try:
                if reset and s.family != socket.AF_UNIX:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    s.shutdown(socket.SHUT_RDWR)
                s.close()
            except OSError:
                pass

    def uri(self):
        return "redis://127.0.0.1:%d" % self.port

    def close(self):
        self.listener.close()
        self.resume()
        self.cut()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
