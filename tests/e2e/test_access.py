# SPDX-License-Identifier: BSD-3-Clause
# TLS, passwords and rights: what is refused says why, writes nothing and tells no secret.
import os
import time

import pytest

from lib.compare import assert_equal
from lib.dataset import Sizes, fill
from lib.facts import digest
from lib.resp import ReplyError

SECRET = "s3cr3t-Zq9/x@y:%"  # what a URI must write in percent
QUOTED = "s3cr3t-Zq9%2Fx%40y%3A%25"
FEW = Sizes(small_keys=100, string_bytes=100, hash_fields=10, list_items=10, set_members=10,
            zset_members=10, stream_entries=10)


def no_secret(k, *secrets):
    secrets = secrets or (SECRET, QUOTED)
    texts = {"output": k.said, "metrics": str(k.metrics())}
    for dirpath, _, files in os.walk(k.dir):
        for f in files:
            with open(os.path.join(dirpath, f), "rb") as fh:
                texts[f] = fh.read().decode(errors="replace")
    for name, text in texts.items():
        for s in secrets:
            assert s not in text, "secret in " + name


# -- TLS ---------------------------------------------------------------------------------------
@pytest.fixture
def tls_pair(server, certificates):
    source, target = server("source", tls=certificates), server("target", tls=certificates)
    fill(source, FEW, dbs=[0, 1])
    return source, target


def test_tls_right_ca(tls_pair, keyhaul, certificates):
    source, target = tls_pair
    k = keyhaul(source, target, "--tls-ca", certificates["ca"])
    k.wait_caught_up()
    source.call("SET", "later", b"x" * 300_000)
    k.finish()
    assert_equal(source, target)


def test_tls_big_transfer(server, keyhaul, certificates):
    """Many records per read, renewed writes: TLS under load, source only."""
    source, target = server("source", tls=certificates), server("target")
    fill(source, Sizes(small_keys=20_000, string_bytes=30 << 20, hash_fields=100_000), dbs=[0])
    keyhaul(source, target, "--tls-ca", certificates["ca"], "--until", "caught-up").expect(0)
    assert_equal(source, target)


@pytest.mark.parametrize("side", ["source", "target"])
def test_tls_wrong_ca(tls_pair, keyhaul, certificates, side):
    source, target = tls_pair
    ca = {"source": certificates["ca"], "target": certificates["ca"]}
    ca[side] = certificates["other_ca"]
    before = digest(target)
    keyhaul(source, target, "--source-tls-ca", ca["source"], "--target-tls-ca",
            ca["target"]).expect(1, side, "certificate")
    assert digest(target) == before


def test_tls_system_ca_does_not_know_ours(tls_pair, keyhaul):
    keyhaul(*tls_pair).expect(1, "certificate", "source")


def test_tls_wrong_name(server, keyhaul, certificates):
    elsewhere = dict(certificates, server_cert=certificates["elsewhere_cert"],
                     server_key=certificates["elsewhere_key"])
    source, target = server("source", tls=elsewhere), server("target")
    fill(source, FEW, dbs=[0])
    ca = ["--tls-ca", certificates["ca"]]
    keyhaul(source, target, *ca).expect(1, "name|host|certificate|IP", "source")
    assert target.call("DBSIZE") == 0
    keyhaul(source, target, *ca, "--source-tls-server-name", "elsewhere.test", "--until",
            "caught-up").expect(0)
    assert_equal(source, target)


def test_tls_host_name(tls_pair, keyhaul, certificates):
    source, target = tls_pair
    keyhaul(source, target, "--tls-ca", certificates["ca"], "--until", "caught-up",
            source_uri=source.uri(host="localhost"),
            target_uri=target.uri(host="localhost")).expect(0)
    assert_equal(source, target)


def test_tls_skip_verify(tls_pair, keyhaul):
    keyhaul(*tls_pair, "--insecure-skip-verify", "--until", "caught-up").expect(0)
    assert_equal(*tls_pair)


def test_tls_client_certificate(server, keyhaul, certificates):
    source = server("source", tls=certificates, mtls=True)
    target = server("target")
    fill(source, FEW, dbs=[0])
    ca = ["--tls-ca", certificates["ca"]]
    keyhaul(source, target, *ca).expect(1, "source")
    keyhaul(source, target, *ca, "--source-tls-cert", certificates["client_cert"],
            "--source-tls-key", certificates["client_key"], "--until", "caught-up").expect(0)
    assert_equal(source, target)


def test_tls_against_a_plain_port(source, target, keyhaul, certificates):
    keyhaul(source, target, "--tls-ca", certificates["ca"], "--connect-timeout", "2s",
            source_uri=source.uri().replace("redis:", "rediss:")).expect(1, "source", "TLS",
                                                                         timeout=20)


def test_plain_against_a_tls_port(server, keyhaul, certificates):
    source, target = server("source", tls=certificates), server("target")
    keyhaul(source, target, source_uri=source.uri().replace("rediss:", "redis:")).expect(
        1, "source", timeout=20)


# -- passwords ---------------------------------------------------------------------------------
@pytest.fixture
def locked(server):
    source, target = server("source", password=SECRET), server("target", password=SECRET + "2")
    fill(source, FEW, dbs=[0])
    return source, target


def give(how, tmp_path, source, target):
    """Options, environment and URIs for one way of giving both passwords."""
    if how == "file":
        for name, p in (("s", SECRET), ("t", SECRET + "2")):
            (tmp_path / name).write_text(p + "\n")
        return ["--source-password-file", tmp_path / "s", "--target-password-file",
                tmp_path / "t"], {}
    if how == "environment":
        return [], {"env": {"KEYHAUL_SOURCE_PASSWORD": SECRET,
                            "KEYHAUL_TARGET_PASSWORD": SECRET + "2"}}
    return [], {"source_uri": source.uri(password=QUOTED), "target_uri":
                target.uri(user="default", password=QUOTED + "2")}


@pytest.mark.parametrize("how", ["file", "environment", "uri"])
@pytest.mark.parametrize("output", ["human", "json"])
def test_password(locked, keyhaul, tmp_path, how, output):
    source, target = locked
    options, kw = give(how, tmp_path, source, target)
    k = keyhaul(source, target, *options, "--log-level", "debug", "--output", output, **kw)
    k.wait_caught_up()
    with open("/proc/%d/cmdline" % k.proc.pid, "rb") as f:
        cmdline = f.read().decode(errors="replace")
    assert SECRET not in cmdline and QUOTED not in cmdline
    k.finish()
    assert_equal(source, target)
    no_secret(k)


@pytest.mark.parametrize("side", ["source", "target"])
def test_password_wrong(locked, keyhaul, side):
    source, target = locked
    env = {"KEYHAUL_SOURCE_PASSWORD": SECRET, "KEYHAUL_TARGET_PASSWORD": SECRET + "2"}
    env["KEYHAUL_%s_PASSWORD" % side.upper()] = "wrong-Zq9"
    before = digest(target)
    k = keyhaul(source, target, "--log-level", "debug", env=env).expect(1, side, "password|AUTH")
    no_secret(k, SECRET, "wrong-Zq9")
    assert digest(target) == before


@pytest.mark.parametrize("side", ["source", "target"])
def test_password_missing(locked, keyhaul, side):
    source, target = locked
    env = {"KEYHAUL_SOURCE_PASSWORD": SECRET, "KEYHAUL_TARGET_PASSWORD": SECRET + "2"}
    del env["KEYHAUL_%s_PASSWORD" % side.upper()]
    k = keyhaul(source, target, env=env).expect(1, side, "password")
    no_secret(k)


def test_password_file_missing(source, target, keyhaul, tmp_path):
    k = keyhaul(source, target, "--source-password-file", tmp_path / "nowhere")
    assert k.wait() in (1, 2)
    assert "source-password-file" in k.said


# -- rights ------------------------------------------------------------------------------------
def user(server, *rules):
    server.call("ACL", "SETUSER", "mig", "on", ">" + SECRET, "~*", "&*", *rules)
    return {"user": "mig", "password": QUOTED}


def test_rights_enough(source, target, keyhaul):
    """The least rights the documentation names for both sides."""
    fill(source, FEW, dbs=[0])
    s = user(source, "+@all")
    t = user(target, "+@all", "-@dangerous", "+restore", "+flushall", "+flushdb", "+swapdb",
             "+info", "+config|get", "+sort", "+keys")
    k = keyhaul(source, target, source_uri=source.uri(**s), target_uri=target.uri(**t))
    k.wait_caught_up()
    k.finish()
    assert_equal(source, target)
    no_secret(k)


@pytest.mark.parametrize("rules", [["+@all", "-psync", "-sync"], ["+@read", "+info", "+ping"],
                                   ["+@all", "-replconf"]], ids=["psync", "read", "replconf"])
def test_rights_source(source, target, keyhaul, rules):
    fill(source, FEW, dbs=[0])
    before = digest(target)
    k = keyhaul(source, target, source_uri=source.uri(**user(source, *rules)))
    if rules == ["+@all", "-replconf"]:
        assert k.wait(30) in (1, 3)
    else:
        k.expect(1, "source", "psync|replconf", "permission|rights|ACL|NOPERM", timeout=30)
    assert digest(target) == before
    no_secret(k)


@pytest.mark.parametrize("rules", [["+@all", "-set", "-restore"], ["+@read", "+info", "+ping"],
                                   ["+@all", "-restore"], ["+@all", "-select"],
                                   ["+@all", "resetkeys", "~only:*"]],
                         ids=["set", "read", "restore", "select", "keys"])
def test_rights_target(source, target, keyhaul, rules):
    fill(source, FEW, dbs=[0, 1])
    before = digest(target)
    k = keyhaul(source, target, target_uri=target.uri(**user(target, *rules)))
    assert k.wait(30) in (1, 3), k.said
    assert "target" in k.said
    if rules[-1] == "-restore":
        assert "restore" in k.said.lower()
    assert digest(target) == before
    no_secret(k)


@pytest.mark.parametrize("rules, named", [
    (["+@all", "-watch"], r"\+watch"), (["+@all", "-get"], r"\+get"),
    (["+@all", "resetkeys", "~only:*", "~keyhaul:rights-check"], r"~\*"),
    (["+@all", "resetkeys", "~keyhaul:rights-check", "%R~keyhaul:checkpoint:*"], r"~\*"),
], ids=["watch", "get", "name", "read-only"])
def test_rights_for_the_checkpoint(source, target, keyhaul, rules, named):
    """Also of one who has been given names of keys: what is missing is said, nothing written."""
    fill(source, FEW, dbs=[0])
    k = keyhaul(source, target, target_uri=target.uri(**user(target, *rules)))
    k.expect(1, "target", "ACL SETUSER mig " + named, timeout=30)
    assert target.call("DBSIZE") == 0


def test_user_is_deleted_meanwhile(source, target, keyhaul):
    """The server closes the connection of a deleted user: said, not hung."""
    fill(source, FEW, dbs=[0])
    t = user(target, "+@all")
    k = keyhaul(source, target, target_uri=target.uri(**t))
    k.wait_caught_up()
    target.call("ACL", "DELUSER", "mig")
    time.sleep(0.1)
    try:
        source.call("SET", "after", "1")
    except ReplyError:
        pass
    k.expect(1, "target", timeout=20)
