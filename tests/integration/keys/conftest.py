"""The databases and the app of the store's tests, and AWS KMS as `moto` stands in for it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from store import kms
from tests.integration.store.conftest import _postgresql_url, _sqlite_file, app, database

__all__ = ["_postgresql_url", "_sqlite_file", "app", "database"]


class Kms:
    """A KMS on loopback that can be away for a while. What it holds is kept meanwhile."""

    def __init__(self, server_class: Any) -> None:
        self._class = server_class
        self._server = server_class(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Be away."""
        self._server.stop()

    def start(self) -> None:
        """Be there again, at the same address."""
        self._server = self._class(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()


@dataclass(frozen=True)
class KmsKeys:
    """A KMS and the ARNs of two keys in it."""

    server: Kms
    one: str
    two: str


@pytest.fixture(scope="session")
def _kms() -> Iterator[Kms]:
    pytest.importorskip("boto3", reason="boto3 is not installed: the extra `kms`")
    moto = pytest.importorskip("moto.server", reason="moto's server is not installed")
    # It answers to any credentials; whatever this machine has stays out of it.
    server = Kms(moto.ThreadedMotoServer)
    yield server
    server.stop()


@pytest.fixture
def kms_keys(_kms: Kms, monkeypatch: pytest.MonkeyPatch) -> KmsKeys:
    """Two fresh keys, and an environment in which boto3 finds this KMS and nothing else."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL_KMS": _kms.url,
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "fake-not-a-real-key",
        "AWS_SECRET_ACCESS_KEY": "fake-not-a-real-secret",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    client = kms.open_client()
    one, two = (client.create_key()["KeyMetadata"]["Arn"] for _ in range(2))
    client.close()
    return KmsKeys(_kms, one, two)
