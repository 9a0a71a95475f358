# SPDX-License-Identifier: BSD-3-Clause
# Running `keyhaul inspect`, and what a manifest says of the line of a key.
import hashlib
import json
import os
import re
import struct
import subprocess

from .canon import lengthy
from .mover import keyhaul_binary
from .server import die_with_parent


def run(*args, timeout=120, stdin=subprocess.DEVNULL, env=None, text=True, **kw):
    """keyhaul with these words, to its end."""
    full = {k: v for k, v in os.environ.items() if not k.startswith("KEYHAUL_")}
    full.update(env or {})
    return subprocess.run([keyhaul_binary(), *map(str, args)], capture_output=True, text=text,
                          timeout=timeout, env=full, preexec_fn=die_with_parent,
                          **{"input" if isinstance(stdin, (str, bytes)) else "stdin": stdin}, **kw)


def report(what, *options, **kw):
    """The JSON report of a file or URI."""
    r = run("inspect", what, "--output", "json", *options, **kw)
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout)


def read_lines(text):
    """{(db, name): line as dict} of what --output jsonl printed."""
    out = {}
    for line in text.splitlines():
        m = json.loads(line)
        name = m["key"].encode() if "key" in m else bytes.fromhex(m["key_hex"])
        assert (m["db"], name) not in out
        out[m["db"], name] = m
    return out


def lines(what, *options, **kw):
    r = run("inspect", what, "--output", "jsonl", *options, **kw)
    assert r.returncode == 0, r.stderr
    return read_lines(r.stdout)


# -- docs/formats/canonical.md: "state" -----------------------------------------------------------
def ident(text):
    return struct.pack(">QQ", *map(int, text.split("-")))


def group_state(text):
    name, read, consumers, pending = text.split(":", 3)
    out = [b"G", lengthy(bytes.fromhex(name)),
           struct.pack(">Q", (1 << 64) - 1 if read == "-" else int(read))]
    out += [b"K" + lengthy(bytes.fromhex(c)) for c in consumers.split(",") if c]
    for p in filter(None, pending.split(",")):
        i, _, at = p.partition("@")
        out += [b"P", ident(i), struct.pack(">q", int(at))]
    return b"".join(out)


def stream_state(text):
    """Of the last column of a manifest's line."""
    out, last = b"", b""
    for part in text.split(";"):
        if m := re.fullmatch(r"first=([\d-]+),maxdel=([\d-]+),added=(\d+)", part):
            out = b"C" + ident(m[1]) + ident(m[2]) + struct.pack(">Q", int(m[3])) + out
        elif part.startswith("g:"):
            out += group_state(part[2:])
        elif part.startswith("idmp="):
            n = [int(x) for x in part[5:].split(",")]
            first = b"I" + struct.pack(">QQ", *n[:2])
            last = b"D" + struct.pack(">QQ", *n[2:])
            producers = b""
        elif part.startswith("p:"):
            name, ids = part[2:].split(":", 1)
            producers += b"p" + lengthy(bytes.fromhex(name))
            for i in filter(None, ids.split(",")):
                iid, _, at = i.partition("=")
                producers += b"i" + lengthy(bytes.fromhex(iid)) + ident(at)
    return out + (first + producers + last if last else b"")


def state_sha256(fields, stream):
    """Of two columns of a manifest's line; None: there is none."""
    if fields != "-":
        pairs = sorted((bytes.fromhex(f), int(at)) for f, at in
                       (p.split("=") for p in fields.split(",")))
        state = b"".join(lengthy(f) + struct.pack(">Q", at) for f, at in pairs)
    else:
        state = stream_state(stream) if stream != "-" else b""
    return hashlib.sha256(state).hexdigest() if state else None
