# SPDX-License-Identifier: BSD-3-Clause
# Real servers for tests: on a free loopback port or a Unix socket, in a folder of their own.
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from .resp import Client, ReplyError

_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent():
    """preexec: the kernel ends this process when the test ends, however it ends."""
    _LIBC.prctl(1, signal.SIGKILL)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def servers_folder():
    """Where tests/servers puts them."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.environ.get("KEYHAUL_SERVERS") or os.path.join(cache, "keyhaul", "servers")


def find_servers():
    """{name: path}: redis-server of PATH, and those that tests/servers has fetched."""
    found = {}
    default = shutil.which("redis-server") or shutil.which("valkey-server")
    if default:
        found["default"] = default
    top = servers_folder()
    if os.path.isdir(top):
        for name in sorted(n for n in os.listdir(top) if not n.startswith(".")):
            d = os.path.join(top, name, "bin")
            for f in sorted(os.listdir(d)) if os.path.isdir(d) else []:
                if f.endswith("-server"):
                    found[name] = os.path.join(d, f)
    return found


def default_server():
    return os.environ.get("KEYHAUL_REDIS_SERVER") or find_servers()["default"]


_VERSIONS = {}


def binary_version(binary):
    """(is_valkey, (major, minor, patch)) from --version."""
    if binary not in _VERSIONS:
        text = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout
        m = re.search(r"v=(\d+)\.(\d+)\.(\d+)", text)
        _VERSIONS[binary] = ("alkey" in text, tuple(int(x) for x in m.groups()))
    return _VERSIONS[binary]


class Server:
    """One server process. Use as a context manager, or start() and stop()."""

    def __init__(self, binary=None, config=None, unix=False, tls=None, mtls=False, password=None,
                 name="server", keep_log=None):
        self.binary = binary or default_server()
        self.valkey, self.version = binary_version(self.binary)
        self.redict = "redict" in os.path.basename(self.binary)
        self.config = dict(config or {})
        self.unix = unix
        self.tls = tls
        self.mtls = mtls
        self.password = password
        self.name = name
        self.keep_log = keep_log
        self.proc = None
        self.dir = None
        self.port = 0
        self.path = None
        self.clients = []

    def since(self, redis, valkey=None):
        """Has it what came with these versions, (major, minor)? None: never. Valkey without a
        version of its own, and Redict, have what Redis 7.2 has."""
        if self.valkey and valkey:
            return self.version >= valkey
        level = (7, 2) if self.valkey or self.redict else self.version
        return redis is not None and level >= redis

    # -- life ----------------------------------------------------------------------------------
    def start(self):
        self.dir = self.dir or tempfile.mkdtemp(prefix="kh-%s-" % self.name)
        for _ in range(10):
            self.port = 0 if self.unix else self.port or free_port()
            self.spawn()
            if self.wait_ready():
                return self
            self.port = 0  # somebody else took it meanwhile
        raise RuntimeError("%s does not start: %s" % (self.binary, self.log()[-2000:]))

    def arguments(self):
        conf = {"bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": self.dir,
                "logfile": "server.log", "repl-diskless-sync": "yes",
                "repl-diskless-sync-delay": "0", "protected-mode": "no"}
        if self.version >= (7, 0, 0):
            conf["enable-debug-command"] = "yes"
        if self.unix:
            self.path = os.path.join(self.dir, "s.sock")
            conf.update({"port": "0", "unixsocket": self.path})
        elif self.tls:
            conf.update({"port": "0", "tls-port": str(self.port),
                         "tls-cert-file": self.tls["server_cert"],
                         "tls-key-file": self.tls["server_key"],
                         "tls-ca-cert-file": self.tls["ca"],
                         "tls-auth-clients": "yes" if self.mtls else "no"})
        else:
            conf["port"] = str(self.port)
        if self.password:
            conf["requirepass"] = self.password
        conf.update(self.config)
        args = []
        for k, v in conf.items():
            args += ["--" + k, *(map(str, v) if isinstance(v, tuple) else [str(v)])]
        return args

    def spawn(self):
        with open(os.path.join(self.dir, "stdout.log"), "ab") as out:
            self.proc = subprocess.Popen([self.binary] + self.arguments(), stdout=out,
                                         stderr=out, cwd=self.dir, preexec_fn=die_with_parent)

    def wait_ready(self):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if self.proc.poll() is not None:
                return False
            try:
                with self.connect(timeout=5) as c:
                    # another server on the same port would answer too: ask who it is
                    return int(c.info("server")["process_id"]) == self.proc.pid
            except (OSError, ReplyError):
                pass
            time.sleep(0.01)
        self.kill()
        return False

    def stop(self):
        for c in self.clients:
            c.close()
        self.clients = []
        if self.proc and self.proc.poll() is None:
            self.cont()
            self.proc.kill()
            self.proc.wait()
        if self.keep_log:
            try:
                shutil.copy(os.path.join(self.dir, "server.log"),
                            os.path.join(self.keep_log, self.name + ".log"))
            except OSError:
                pass
        if self.dir:
            shutil.rmtree(self.dir, ignore_errors=True)

    def restart(self, timeout=30):
        """After kill(): the same server again, with what its files hold; loaded when it returns."""
        end = time.monotonic() + timeout
        while True:
            self.spawn()  # its port may still be taken: a connection of another that got it by chance
            if self.wait_ready():
                break
            if time.monotonic() > end:
                raise RuntimeError("%s does not come back: %s" % (self.name, self.log()[-2000:]))
            time.sleep(0.1)
        with self.connect() as c:
            while c.info("persistence").get("loading") == "1":
                if time.monotonic() > end:
                    raise RuntimeError("%s is still loading" % self.name)
                time.sleep(0.02)
        return self

    def kill(self):
        """As a crash: no shutdown, no last words."""
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()

    def pause(self):
        self.proc.send_signal(signal.SIGSTOP)

    def cont(self):
        if self.proc and self.proc.poll() is None:
            self.proc.send_signal(signal.SIGCONT)

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    # -- talking -------------------------------------------------------------------------------
    @property
    def address(self):
        return self.path if self.unix else ("127.0.0.1", self.port)

    def connect(self, db=0, timeout=60, user=None, password=None):
        tls = None
        if self.tls:
            tls = {"ca": self.tls["ca"], "cert": self.tls["client_cert"],
                   "key": self.tls["client_key"]}
        return Client(self.address, db=db, user=user, password=password or self.password,
                      tls=tls, timeout=timeout)

    def client(self, db=0):
        """A connection that is closed together with the server."""
        c = self.connect(db)
        self.clients.append(c)
        return c

    def call(self, *args, db=0):
        with self.connect(db) as c:
            return c.call(*args)

    def uri(self, user=None, password=None, host=None):
        auth = ""
        if user or password:
            auth = "%s%s@" % (user or "", ":" + password if password else "")
        if self.unix:
            return "unix://" + self.path
        return "%s://%s%s:%d" % ("rediss" if self.tls else "redis", auth, host or "127.0.0.1",
                                 self.port)

    def log(self):
        text = ""
        for f in ("stdout.log", "server.log"):
            try:
                with open(os.path.join(self.dir, f), errors="replace") as fh:
                    text += fh.read()
            except OSError:
                pass
        return text

    def cpu_s(self):
        """user+system seconds, with those of reaped children (snapshot forks)."""
        with open("/proc/%d/stat" % self.proc.pid) as f:
            t = f.read().rsplit(")", 1)[1].split()
        return sum(int(x) for x in t[11:15]) / os.sysconf("SC_CLK_TCK")

    def peak_rss_mb(self):
        return peak_rss_mb(self.proc.pid)


def peak_rss_mb(pid):
    with open("/proc/%d/status" % pid) as f:
        m = re.search(r"VmHWM:\s+(\d+) kB", f.read())
    return int(m.group(1)) / 1024 if m else 0.0


def make_certificates(folder):
    """A CA, a server and a client certificate of it, and another CA with nothing in common."""
    def ssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    os.makedirs(folder, exist_ok=True)
    for ca in ("ca", "other-ca"):
        ssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", ca + ".key", "-out", ca + ".crt", "-days", "2", "-subj", "/CN=keyhaul " + ca)
    with open(os.path.join(folder, "server.ext"), "w") as f:
        f.write("subjectAltName=DNS:localhost,DNS:redis.test,IP:127.0.0.1\n")
    # a server whose names do not fit the address that the tests dial
    with open(os.path.join(folder, "elsewhere.ext"), "w") as f:
        f.write("subjectAltName=DNS:elsewhere.test\n")
    with open(os.path.join(folder, "client.ext"), "w") as f:
        f.write("extendedKeyUsage=clientAuth\n")
    for who in ("server", "elsewhere", "client"):
        ssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
            who + ".key", "-out", who + ".csr", "-subj", "/CN=" + who)
        ssl("x509", "-req", "-in", who + ".csr", "-CA", "ca.crt", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "2", "-out", who + ".crt", "-extfile", who + ".ext")
    p = lambda n: os.path.join(folder, n)
    return {"ca": p("ca.crt"), "other_ca": p("other-ca.crt"),
            "server_cert": p("server.crt"), "server_key": p("server.key"),
            "elsewhere_cert": p("elsewhere.crt"), "elsewhere_key": p("elsewhere.key"),
            "client_cert": p("client.crt"), "client_key": p("client.key")}
