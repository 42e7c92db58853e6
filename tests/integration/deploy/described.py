"""The processes as the deployment's files describe them, and the means to start just these here."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import deploy

FILES = Path(deploy.__path__[0])
UNITS = FILES / "systemd"
COMPOSE = FILES / "compose" / "compose.yaml"
STATE = "/run/byok"


@dataclass(frozen=True)
class Described:
    """One process: what it runs, its environment, and under which path it finds which secret."""

    name: str
    arguments: list[str]
    environment: dict[str, str]
    secrets: dict[str, str] = field(default_factory=dict)

    def start(
        self,
        directory: Path,
        secrets: Mapping[str, str],
        more: Mapping[str, str],
        within: Sequence[str] = (),
    ) -> "subprocess.Popen[bytes]":
        """Start it: the same flags and variables, its files and state under `directory`.

        `more` is what an operator gives all roles beside (`byok.env`, `.Values.env`). `within` is a
        command that runs another one somewhere else.
        """
        own = directory / f"secrets-{self.name}"
        own.mkdir(mode=0o700, exist_ok=True)
        environment = {**self.environment, **more}
        for path, key in self.secrets.items():
            (own / Path(path).name).write_text(secrets[key])
        for name, value in environment.items():
            if value in self.secrets:
                environment[name] = str(own / Path(value).name)
            elif value == STATE:
                environment[name] = str(directory / "state")
        with (directory / f"{self.name}.log").open("wb") as log:
            return subprocess.Popen(
                [*within, sys.executable, "-m", "workers.cli.main", *self.arguments],
                cwd=directory,
                env={
                    "PATH": os.environ.get("PATH", ""),
                    "PYTHONPATH": str(FILES.parent),
                    **environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


def of_unit(unit: str) -> Described:
    """The process of a systemd unit (`byok-worker@analyses`), with what all units share."""
    template, _, instance = unit.partition("@")
    own = UNITS / f"{template}{'@' if instance else ''}.service"
    settings: list[tuple[str, str]] = []
    # The drop-in is read last, and both add to lists.
    for file in (own, UNITS / "byok-.service.d" / "10-common.conf"):
        lines = file.read_text().splitlines()
        settings += [
            (name, value.replace("%i", instance))
            for name, separator, value in (line.partition("=") for line in lines)
            if separator and not name.startswith("#")
        ]
    environment: dict[str, str] = {}
    for name, value in settings:
        if name == "Environment":
            environment |= dict(part.split("=", 1) for part in shlex.split(value))
    loaded = [value.partition(":") for name, value in settings if name == "LoadCredential"]
    (command,) = (value for name, value in settings if name == "ExecStart")
    program, *arguments = shlex.split(command)
    assert program == "/opt/byok/bin/byok"
    return Described(
        unit.removeprefix("byok-").replace("@", "-"),
        arguments,
        environment,
        {f"%d/{name}": Path(path).name for name, _, path in loaded},
    )


def of_pod(name: str, spec: Any) -> list[Described]:
    """The processes of a pod's containers."""
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    found = []
    for container in spec["containers"]:
        secrets = {}
        for mount in container["volumeMounts"]:
            for source in volumes[mount["name"]].get("projected", {}).get("sources", []):
                for item in source["secret"]["items"]:
                    secrets[f"{mount['mountPath']}/{item['path']}"] = item["key"]
        environment = {one["name"]: one["value"] for one in container["env"]}
        found.append(
            Described(f"{name}-{container['name']}", container["args"], environment, secrets)
        )
    return found


def of_service(name: str, service: Any) -> Described:
    """The process of a Compose service of ours; variables of the shell at their defaults."""
    secrets = {}
    for secret in service["secrets"]:
        source = secret if isinstance(secret, str) else default(secret["source"])
        target = secret if isinstance(secret, str) else secret["target"]
        secrets[f"/run/secrets/{target}"] = source
    environment = {variable: default(value) for variable, value in service["environment"].items()}
    # The image says where its state lies.
    return Described(name, service["command"], {"BYOK_STATE_DIR": STATE, **environment}, secrets)


def default(text: str) -> str:
    """A Compose value where nothing is set in the shell."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", text)
