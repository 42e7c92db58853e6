"""PostgreSQL and Valkey with the users that are shipped, and the chart as it renders."""

import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import redis

from tests.conftest import new_database, run_valkey
from tests.integration.deploy.described import FILES

ROLES = ("owner", "worker", "scheduler", "publisher", "reader")
USERS = ("worker", "publisher", "subscriber", "reader")
PASSWORD = "not-a-real-password"

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Rendered:
    """A chart's manifests."""

    manifests: list[Manifest]

    def of(self, kind: str) -> dict[str, Manifest]:
        """Those of a kind, by their name."""
        return {one["metadata"]["name"]: one for one in self.manifests if one["kind"] == kind}


@pytest.fixture(scope="session")
def chart() -> Rendered:
    """The chart with everything that can be switched on."""
    return render(
        {
            "image": {"digest": f"sha256:{'0' * 64}"},
            "workers": {"analyses": {"keda": {"enabled": True}}},
            "exporter": {"podMonitor": {"enabled": True}},
            "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "none"}},
        }
    )


def render(values: Manifest) -> Rendered:
    """The chart with some values; skips where Helm's library is not to be had."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("helm-python-sdk has a wheel for Linux on x86-64 alone")
    import helm_python  # noqa: PLC0415 -- see above
    import yaml  # noqa: PLC0415 -- comes with it

    files = helm_python.Chart.load(FILES / "helm" / "byok").render(values, name="byok")
    found = [one for text in files.values() for one in yaml.safe_load_all(text) if one]
    return Rendered(found)


@pytest.fixture(scope="module")
def roles(postgresql: str) -> Iterator[str]:
    """The server, with the roles of `roles.sql`, which are gone again after the module."""
    sql = (FILES / "postgresql" / "roles.sql").read_text()
    with psycopg.connect(postgresql, autocommit=True) as admin:
        for _ in range(2):  # it may be run again
            admin.execute(sql.encode())
        yield postgresql
        names = ", ".join(f"byok_{role}" for role in ROLES)
        admin.execute(f"DROP ROLE {names}".encode())


@pytest.fixture
def owned(roles: str) -> Iterator[str]:
    """An empty database of `byok_owner`; its address for a superuser."""
    with owned_database(roles) as address:
        yield address


@contextmanager
def owned_database(server: str) -> Iterator[str]:
    """An empty database of `byok_owner` on a server with the roles."""
    with new_database(server) as url:
        address = url.replace("+psycopg", "")
        with psycopg.connect(address, autocommit=True) as admin:
            name = admin.info.dbname
            admin.execute(f"ALTER DATABASE {name} OWNER TO byok_owner".encode())
            admin.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC".encode())
        yield address


def as_role(url: str, role: str) -> str:
    """The same database as one of the roles. The tests' own server asks nobody for a password."""
    return url.replace("://postgres:@", f"://byok_{role}@").replace(
        "://postgres@", f"://byok_{role}@"
    )


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Valkey with the users of `users.acl`: the address of each, without a database number."""
    lines = (FILES / "redis" / "users.acl").read_text().splitlines()
    with run_valkey(tmp_path_factory.mktemp("valkey")) as url:
        path = url.removeprefix("unix://")
        with redis.Redis.from_url(url) as admin:
            for user in lines:
                if user.startswith("user byok-"):
                    _, name, *rules = user.split()
                    given = [f">{PASSWORD}" if r.startswith("#") else r for r in rules]
                    admin.execute_command("ACL", "SETUSER", name, *given)
            yield {
                "admin": url,
                **{user: f"unix://byok-{user}:{PASSWORD}@{path}" for user in USERS},
            }
