# SPDX-License-Identifier: BSD-3-Clause
"""The pages a user reads hold: the tutorial's commands are run as they stand, every option, exit
status and message named exists, links lead somewhere, code fits 80 columns.

A tutorial's block ```sh is typed into a terminal, ```sh terminal-2 into a second one; one with
until-ctrl-c runs until <!-- ctrl-c --> on the page. The words of a ```text block must then show up
in that terminal."""
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import termios
import time

import pytest

from lib.compare import assert_equal
from lib.dataset import Sizes, fill
from lib.mover import keyhaul_binary
from lib.server import die_with_parent, free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"
WRITTEN = [ROOT / "README.md", TUTORIAL, ROOT / "docs" / "README.md", ROOT / "docs" / "limits.md",
           *sorted((ROOT / "docs" / "guide").glob("*.md"))]
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")})
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)
COLUMNS = 80
COMMANDS = ("migrate", "restore", "backup", "inspect", "status", "stop", "finish")


def name(page):
    return str(page.relative_to(ROOT))


def blocks(page, info="sh"):
    """Contents of the fenced blocks whose first word is `info`."""
    return [body for words, body in FENCE.findall(page.read_text())
            if words.split()[:1] == [info]]


def prose(page):
    return FENCE.sub("", page.read_text())


def command_lines(page):
    """(command, arguments) of each `keyhaul migrate ...`, `keyhaul restore ...` of the shell blocks,
    continuation lines joined."""
    for body in blocks(page):
        for line in body.replace("\\\n", " ").splitlines():
            m = re.search(r"keyhaul (%s) (.*?)(?: [|;&]| 2?>|$)" % "|".join(COMMANDS), line)
            if m and not line.startswith("#"):
                yield m.group(1), m.group(2).split()


def help_text(*args):
    return subprocess.run([keyhaul_binary(), *args], capture_output=True, text=True, timeout=10,
                          check=True).stdout


# -- the tutorial ------------------------------------------------------------------------------
class Terminal:
    """bash on a pseudo terminal of 80 columns, typed into without looking."""

    def __init__(self):
        self.fd, slave = pty.openpty()
        mode = termios.tcgetattr(slave)
        mode[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, mode)
        termios.tcsetwinsize(slave, (24, COLUMNS))
        env = {k: v for k, v in os.environ.items() if not k.startswith("KEYHAUL_")}
        env.update(TERM="xterm", PS1="", PS2="", HISTFILE="")
        env.pop("COLUMNS", None)

        def own_terminal():
            os.setsid()
            os.close(os.open(os.ttyname(0), os.O_RDWR))  # becomes the controlling terminal
            die_with_parent()
        self.proc = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "--noediting", "-i"], stdin=slave, stdout=slave,
            stderr=slave, cwd=ROOT, env=env, preexec_fn=own_terminal)
        os.close(slave)
        self.said, self.n = "", 0

    def type(self, text):
        os.write(self.fd, text.encode())

    def listen(self, wanted, what, seconds=15):
        """Until wanted(said) is true."""
        end = time.monotonic() + seconds
        while not wanted(self.said):
            if time.monotonic() > end:
                pytest.fail("no %s after %d s in:\n%s" % (what, seconds, self.said[-3000:]))
            if select.select([self.fd], [], [], 0.05)[0]:
                self.said += os.read(self.fd, 1 << 16).decode(errors="replace")

    def finish(self):
        """Until the shell is back."""
        self.n += 1
        self.type("printf 'back-%%s\\n' %d\n" % self.n)
        mark = "back-%d" % self.n
        self.listen(lambda said: mark in said, "end of the commands")
        self.said = self.said.replace(mark, "")

    def run(self, commands):
        self.said = ""
        self.type(commands if commands.endswith("\n") else commands + "\n")
        self.finish()

    def expect(self, shown):
        shown = re.sub(r"\b[0-9a-f]{40}\b", "", shown)
        words = set(re.findall(r"[A-Za-z][A-Za-z-]{2,}", shown))

        def missing():
            return sorted(w for w in words if w not in self.said)
        try:
            self.listen(lambda said: not missing(), "words of the page", 10)
        except pytest.fail.Exception:
            pytest.fail("the page shows %s, but there was:\n%s" % (missing(), self.said[-3000:]))

    def close(self):
        # an interactive shell hangs up its jobs when its terminal goes away
        self.proc.send_signal(signal.SIGHUP)
        os.close(self.fd)
        self.proc.wait(10)


def tutorial_steps(text):
    """("run" | "start" | "expect" | "ctrl-c", terminal, content) in the order of the page."""
    terminal = 1
    for m in re.finditer(r"^```([^\n]*)\n(.*?)^```$|^<!-- ctrl-c -->$", text, re.M | re.S):
        words = (m.group(1) or "").split()
        if m.group(1) is None:
            terminal = 1
            yield "ctrl-c", 1, ""
        elif words[0] == "text":
            yield "expect", terminal, m.group(2)
        elif "./run build" not in m.group(2):
            terminal = 2 if "terminal-2" in words else 1
            yield "start" if "until-ctrl-c" in words else "run", terminal, m.group(2)


def stop_servers(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def test_tutorial(tmp_path):
    text = TUTORIAL.read_text()
    for wanted in (" 7001", " 7002", "/tmp/keyhaul-tutorial", "build/keyhaul"):
        assert wanted in text
    old, new = free_port(), free_port()
    text = text.replace("/tmp/keyhaul-tutorial", str(tmp_path / "t"))
    text = text.replace("build/keyhaul ", keyhaul_binary() + " ")
    text = re.sub(r"\b7001\b", str(old), re.sub(r"\b7002\b", str(new), text))
    terminals, pids, begun = {}, [], time.monotonic()
    try:
        terminals = {1: Terminal(), 2: Terminal()}
        for what, number, content in tutorial_steps(text):
            t = terminals[number]
            if what == "run":
                t.run(content)
            elif what == "start":
                t.said = ""
                t.type(content)
            elif what == "expect":
                t.expect(content)
            else:
                t.said = ""
                t.type("\x03")
                t.finish()
            pids = pids or [int(f.read_text()) for f in (tmp_path / "t").glob("*/pid")]
            if "DEBUG DIGEST" in content:
                digests = re.findall(r"\b[0-9a-f]{40}\b", t.said)
                assert len(digests) == 2 and digests[0] == digests[1] != "0" * 40, t.said
        assert len(pids) == 2, "two servers were to be started"
        assert time.monotonic() - begun < 30
    finally:
        for t in terminals.values():
            t.close()
        stop_servers(pids)
    assert not (tmp_path / "t").exists(), "the page's last step cleans up"


# -- rights ------------------------------------------------------------------------------------
def test_rights_of_the_guide(source, target, keyhaul):
    """The ACL rules of the page suffice, and without one of them it is named."""
    text = (ROOT / "docs" / "guide" / "rights.md").read_text()
    rules = re.findall(r"^ACL SETUSER mover on >\S+((?: \\\n +[^\n]*| \S+)*)$", text, re.M)
    assert len(rules) == 2, "one for each side"
    for server, rule in zip((source, target), rules):
        server.call("ACL", "SETUSER", "mover", "on", ">pw", *rule.replace("\\\n", " ").split())
    fill(source, Sizes(small_keys=500))
    # The check of conflicts scans the smaller side: in database 0 the target, in 1 the source.
    target.call("SET", "not in the way", "1")
    others = "for i=1,20000 do redis.call(ARGV[1], 'not in the way:'..i, ARGV[2]) end"
    target.call("EVAL", others, 0, "SET", "1", db=1)
    uris = {"source_uri": source.uri("mover", "pw"), "target_uri": target.uri("mover", "pw")}
    k = keyhaul(source, target, **uris)
    k.wait_metric(lambda m: m["phase"] == "stream")
    source.call("EVAL", "redis.call('SETEX', KEYS[1], 100, 'v')", 1, "by script")
    source.call("FLUSHDB", db=5)
    source.call("SWAPDB", 3, 4)
    source.call("PUBLISH", "channel", "words")
    target.call("DEL", "not in the way")
    target.call("EVAL", others, 0, "DEL", "", db=1)
    k.finish()
    assert_equal(source, target)
    target.call("FLUSHALL")
    target.call("ACL", "SETUSER", "mover", "-restore")
    keyhaul(source, target, **uris).expect(1, "ACL SETUSER mover .*restore")


# -- what is named exists ----------------------------------------------------------------------
@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_options_exist(page):
    known = {c: set(re.findall(r"^  (--[a-z-]+)", help_text("help", c), re.M)) for c in COMMANDS}
    assert {"--source", "--until", "--metrics-file"} <= known["migrate"]
    named = {o for span in re.findall(r"`([^`]*)`", prose(page))
             for o in re.findall(r"(?<!\S)(--[a-z][a-z-]*)", span)}
    everywhere = set().union(*known.values())
    assert named <= everywhere, sorted(named - everywhere)
    for command, line in command_lines(page):
        given = {a.split("=")[0] for a in line if a.startswith("--")}
        assert given <= known[command], (command, sorted(given - known[command]))


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_command_lines_are_understood(page):
    """With --help behind it the parser looks at every option and choice, and nothing is moved."""
    for command, words in command_lines(page):
        words = [w.strip("'\"") for w in words]
        r = subprocess.run([keyhaul_binary(), command, *words, "--help"], timeout=10,
                           capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert r.returncode == 0, "%s\n%s" % (" ".join(words), r.stderr)


def test_some_command_lines_are_there():
    there = [command for page in WRITTEN for command, _ in command_lines(page)]
    assert there.count("migrate") >= 8 and there.count("restore") >= 4
    assert there.count("backup") >= 3 and there.count("inspect") >= 5


def test_exit_statuses_are_those_of_the_help():
    told = re.findall(r"^  (\d)  \S", help_text("help", "migrate").split("Exit status")[1], re.M)
    assert re.findall(r"^\| (\d) \|", (ROOT / "README.md").read_text(), re.M) == told


def source_words():
    """All string literals of the program; neighbours joined, formats as they stand."""
    words = []
    for path in sorted((ROOT / "src").rglob("*.[ch]")):
        text = re.sub(r'"\s*\n?\s*"', "", path.read_text())
        words += re.findall(r'"((?:[^"\\\n]|\\.)*)"', text)
    return "\n".join(words).replace('\\"', '"')


def test_messages_of_the_troubleshooting_page_exist():
    words = source_words()
    messages = re.findall(r"^\*\*`(.*?)`\*\*", (ROOT / "docs" / "guide" /
                                               "troubleshooting.md").read_text(), re.M)
    assert len(messages) >= 20
    parts = {p.strip() for message in messages for p in message.split("...")} - {""}
    assert not [p for p in sorted(parts) if p not in words], "no message says that"


# -- form --------------------------------------------------------------------------------------
def anchors(page):
    """As GitHub makes them of headings."""
    heads = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        to = (page.parent / path).resolve() if path else page
        assert to.exists(), link
        assert not anchor or anchor in anchors(to), link


def test_every_page_of_the_docs_is_in_the_index():
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / p.split("#")[0]).resolve()
              for p in re.findall(r"\]\(([^)\s]+)\)", index.read_text())}
    linked |= {index, *(p for p in PAGES if "decisions" in p.parts and p.name != "README.md")}
    assert {name(p) for p in PAGES if "docs" in p.parts} <= {
        name(p) for p in linked if ROOT in p.parents}


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_code_fits_80_columns(page):
    wide = [line for _, body in FENCE.findall(page.read_text()) for line in body.splitlines()
            if len(line) > COLUMNS]
    assert not wide
