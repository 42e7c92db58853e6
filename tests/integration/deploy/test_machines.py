"""Workers on two machines: each in a network namespace of its own, with no way to anything but one
address, where Redis speaks TLS to the users of `users.acl` and a provider sandbox answers.

The database is a socket, which no network namespace holds back.
"""

import datetime as dt
import hashlib
import ipaddress
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.local.sandbox import server
from events import (
    AccountUpdated,
    AnalysisRequested,
    CreditPeriod,
    KeyAdded,
    Operation,
    Provider,
    Publisher,
    SealingKeys,
    seal_input,
    seal_key,
)
from tests.integration.deploy.conftest import PASSWORD, as_role
from tests.integration.deploy.described import FILES, Described, of_unit
from tests.integration.process.running import until
from tests.road import GOOD_OPENAI, MAIL, SIGNING_KEY, fake_key
from tests.sent import searched_sandbox

SOURCE = "test/upstream"
REQUESTS = 24
SECONDS = 60


class Network(NamedTuple):
    """One address that the machines reach, and their names."""

    address: str
    machines: tuple[str, str]


@pytest.fixture
def network() -> Iterator[Network]:
    """Two network namespaces on a bridge of this machine."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux, root and the command ip")
    own = os.getpid() % 65_000
    net = f"10.{200 + own % 50}.{own // 50 % 250}"
    bridge = f"byok{own}"
    machines = (f"byok{own}a", f"byok{own}b")
    with ExitStack() as undo:
        if ip("link", "add", bridge, "type", "bridge", check=False) != 0:
            pytest.skip("this machine lets nobody make network namespaces")
        undo.callback(ip, "link", "del", bridge)
        ip("addr", "add", f"{net}.1/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for number, machine in enumerate(machines, start=11):
            ip("netns", "add", machine)
            undo.callback(ip, "netns", "del", machine)
            ip("link", "add", f"{machine}v", "type", "veth", "peer", "eth0", "netns", machine)
            # Now: with its namespace it would go some time later.
            undo.callback(ip, "link", "del", f"{machine}v")
            ip("link", "set", f"{machine}v", "master", bridge, "up")
            ip("-n", machine, "link", "set", "lo", "up")
            ip("-n", machine, "addr", "add", f"{net}.{number}/24", "dev", "eth0")
            ip("-n", machine, "link", "set", "eth0", "up")
        yield Network(f"{net}.1", machines)


def ip(*words: str, check: bool = True) -> int:
    command = shutil.which("ip") or "ip"
    done = subprocess.run([command, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done.returncode


@contextmanager
def redis_over_tls(directory: Path, address: str) -> Iterator[str]:
    """A Redis with the shipped users at an address; `host:port`."""
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("redis-server is not found: the embedded Valkey speaks no TLS")
    certificate(directory, address)
    digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
    lines = (FILES / "redis" / "users.acl").read_text().splitlines()
    users = [line for line in lines if not line.startswith("#")]
    for name in ("WORKER", "PUBLISHER", "SUBSCRIBER", "READER"):
        users = [line.replace(f"HASH_OF_{name}", digest) for line in users]
    (directory / "users.acl").write_text("\n".join(users) + "\n")
    port = str(20_000 + os.getpid() % 10_000)
    process = subprocess.Popen(
        [
            *(found, "--port", "0", "--tls-port", port, "--bind", address, "--dir", directory),
            *("--tls-cert-file", directory / "server.pem"),
            *("--tls-key-file", directory / "server.key"),
            *("--tls-ca-cert-file", directory / "ca.pem", "--tls-auth-clients", "no"),
            *("--aclfile", directory / "users.acl", "--appendonly", "yes", "--save", ""),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        url = address_of("worker", f"{address}:{port}", directory, 0)
        until(lambda: answers(url, process), "Redis answers over TLS")
        yield f"{address}:{port}"
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str, process: "subprocess.Popen[bytes]") -> bool:
    if process.poll() is not None:
        pytest.skip("this Redis was built without TLS")
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


def certificate(directory: Path, address: str) -> None:
    """An authority, and the server's certificate by it."""
    now = dt.datetime.now(dt.UTC)
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("ca", "server")}
    names = {
        name: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"byok test {name}")])
        for name in keys
    }
    for name, key in keys.items():
        builder = (
            x509.CertificateBuilder()
            .subject_name(names[name])
            .issuer_name(names["ca"])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]),
                critical=False,
            )
        )
        signed = builder.sign(keys["ca"], hashes.SHA256())
        (directory / f"{name}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        (directory / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


def address_of(user: str, at: str, directory: Path, database: int) -> str:
    authority = directory / "ca.pem"
    return f"rediss://byok-{user}:{PASSWORD}@{at}/{database}?ssl_ca_certs={authority}"


def test_two_machines_share_the_work_over_tls(
    network: Network, owned: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HOST", network.address)
    with (
        redis_over_tls(tmp_path, network.address) as at,
        searched_sandbox() as sandbox,
        ExitStack() as started,
    ):
        secrets = {
            **{
                f"{role}_database_url": as_role(owned, role)
                for role in ("owner", "worker", "scheduler")
            },
            "broker_url": address_of("worker", at, tmp_path, 0),
            "redis_url": address_of("worker", at, tmp_path, 1),
            "master_keys": fake_key(1),
            "sealing_keys": fake_key(2),
            "publishers": f'{{"{SOURCE}": {{"keys": ["{SIGNING_KEY.public}"], "types": ["*"]}}}}',
        }
        more = {"OPENAI_BASE_URL": sandbox.openai_url, "BYOK_ANALYSIS_THREADS": "2"}

        def start(machine: str, described: Described) -> "subprocess.Popen[bytes]":
            place = tmp_path / machine
            place.mkdir(exist_ok=True)
            process = described.start(place, secrets, more, ["ip", "netns", "exec", machine])
            started.callback(process.wait)
            started.callback(process.kill)
            return process

        first = network.machines[0]
        assert start(first, of_unit("byok-migration")).wait(SECONDS) == 0
        others = of_unit("byok-worker@events")
        others.environment["BYOK_QUEUES"] = "events,validations,usage"
        for described in (others, of_unit("byok-scheduler")):
            start(first, described)
        for machine in network.machines:
            start(machine, of_unit("byok-worker@analyses"))
        with psycopg.connect(as_role(owned, "worker"), autocommit=True) as store:
            up = "SELECT count(*) FROM processes WHERE role = 'worker'"
            until(lambda: count(store, up) == 3, "the workers of both machines are up", SECONDS)
            publisher = connect(at, tmp_path, secrets["sealing_keys"])
            valid = "SELECT count(*) FROM provider_keys WHERE status = 'valid'"
            until(lambda: count(store, valid) == 1, "the key is valid", SECONDS)
            sandbox.gate(closed=True)
            ask(publisher, secrets["sealing_keys"])
            both = "SELECT count(DISTINCT process_id) FROM attempts"
            until(lambda: count(store, both) == 2, "both machines have work", SECONDS)
            sandbox.gate(closed=False)
            done = "SELECT count(*) FROM analyses WHERE state = 'completed'"
            until(lambda: count(store, done) == REQUESTS, "every request has completed", SECONDS)
            assert count(store, "SELECT count(*) FROM attempts") == REQUESTS


def test_a_server_that_no_authority_vouches_for_is_not_talked_to(tmp_path: Path) -> None:
    with redis_over_tls(tmp_path, "127.0.0.1") as at:
        stranger = f"rediss://byok-worker:{PASSWORD}@{at}/0"
        with (
            redis.Redis.from_url(stranger) as client,
            pytest.raises(redis.ConnectionError, match=r"(?i)certificate"),
        ):
            client.ping()


def count(store: "psycopg.Connection[tuple[int]]", query: str) -> int:
    found = store.execute(query.encode()).fetchone()
    assert found is not None
    return int(found[0])


def connect(at: str, directory: Path, sealing_keys: str) -> Publisher:
    """Connect an account and a key, from this machine; the publisher."""
    sealing = SealingKeys.parse(sealing_keys).current
    publisher = Publisher(
        address_of("publisher", at, directory, 0),
        source=SOURCE,
        signing_key=SIGNING_KEY,
        redis_url=address_of("publisher", at, directory, 1),
    )
    now = dt.datetime.now(dt.UTC)
    day = dt.timedelta(days=1)
    account = AccountUpdated(
        revision=1,
        plan="business",
        ai_consent=True,
        credits=0,
        credit_period=CreditPeriod(start=now - day, end=now + day),
    )
    sealed = seal_key(
        GOOD_OPENAI, sealing, account="acme", provider=Provider.OPENAI, key_id="key-1"
    )
    key = KeyAdded(revision=2, provider=Provider.OPENAI, key_id="key-1", sealed_key=sealed)
    for event in (account, key):
        publisher.publish(event, account="acme", wait="claimed", timeout=SECONDS)
    return publisher


def ask(publisher: Publisher, sealing_keys: str) -> None:
    """Ask for analyses of mails that differ."""
    sealing = SealingKeys.parse(sealing_keys).current
    for number in range(REQUESTS):
        request_id = f"request-{number}"
        mail = MAIL.model_copy(update={"text": f"{MAIL.text} {number}"})
        sealed = seal_input(mail.to_json(), sealing, account="acme", request_id=request_id)
        asked = AnalysisRequested(
            request_id=request_id, operation=Operation.CLASSIFY, sealed_input=sealed
        )
        publisher.publish(asked, account="acme")
    publisher.close()
