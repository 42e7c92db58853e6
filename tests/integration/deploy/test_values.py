"""The chart's values: every wrong one is refused with a sentence that names it."""

import json
from typing import Any

import pytest

from tests.integration.deploy.conftest import Rendered, render
from tests.integration.deploy.described import FILES, of_pod
from workers.settings import SECRETS, QueueGroup, Settings

LIMITS = {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}}

REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"imge": {}}, ["'imge' not allowed"]),
    ({"image": {"digest": "sha256:short"}}, ["'/image/digest'", "sha256:[0-9a-f]{64}"]),
    ({"image": {"repository": "byok:1.0"}}, ["'/image/repository'"]),
    ({"image": {"tag": "latest"}}, ["image.tag", "names no version"]),
    ({"image": {"pullPolicy": "always"}}, ["'/image/pullPolicy'", "'IfNotPresent'"]),
    ({"secret": {"name": ""}}, ["'/secret/name'"]),
    ({"secret": {"platformKeys": ["openai"]}}, ["'/secret/platformKeys/0'", "openai_key"]),
    ({"env": {"BYOK_MASTER_KEYS": "k1:not-a-key"}}, ["BYOK_MASTER_KEYS"]),
    ({"env": {"BYOK_DATABASE_URL": "none"}}, ["BYOK_DATABASE_URL"]),
    ({"env": {"AWS_SECRET_ACCESS_KEY": "none"}}, ["AWS_SECRET_ACCESS_KEY"]),
    ({"env": {"BYOK_LOG_LEVLE": "info"}}, ["BYOK_LOG_LEVLE", "'BYOK_LOG_LEVEL'"]),
    ({"env": {"BYOK_HEALTH_PORT": "1"}}, ["BYOK_HEALTH_PORT"]),
    ({"workers": {"Big": {"queues": ["usage"], "replicas": 1}}}, ["'Big' does not match"]),
    ({"workers": {"analyses": {"replicas": "three"}}}, ["/replicas'", "got string, want integer"]),
    ({"workers": {"analyses": {"queues": ["analysis"]}}}, ["/queues/0'", "'analyses'"]),
    ({"workers": {"analyses": {"resources": {"limits": None}}}}, ["/resources'", "'limits'"]),
    ({"workers": {"events": None}}, ['Nobody takes from "events"']),
    ({"workers": {"analyses": {"keda": {"minReplicas": 9, "maxReplicas": 3, "enabled": True}}}},
     ["workers.analyses.keda", "minReplicas (9) is more than maxReplicas (3)"]),
    ({"scheduler": {"replicas": 0}}, ["'/scheduler/replicas'", "minimum"]),
    ({"terminationGracePeriodSeconds": 30}, ["'/terminationGracePeriodSeconds'", "want 91"]),
    ({"exporter": {"port": 70_000}}, ["'/exporter/port'", "maximum"]),
    ({"prometheus": {"serverAddress": "prometheus:9090"}}, ["'/prometheus/serverAddress'"]),
    ({"podDisruptionBudget": {"maxUnavailable": "most"}}, ["'/podDisruptionBudget"]),
    # Kubernetes takes an empty list of peers for everyone, and of ports for all.
    ({"networkPolicy": {"providers": {"peers": []}}}, ["/providers/peers'", "minItems"]),
    ({"networkPolicy": {"database": {"ports": []}}}, ["/database/ports'", "minItems"]),
    ({"networkPolicy": {"scrapers": []}}, ["/scrapers'", "minItems"]),
    ({"networkPolicy": {"broker": {"peers": [{}]}}}, ["/broker/peers/0'", "minProperties"]),
]  # fmt: skip


@pytest.mark.parametrize(("values", "says"), REFUSED, ids=lambda one: json.dumps(one)[:60])
def test_a_wrong_value_is_refused_by_name(
    chart: Rendered, values: dict[str, Any], says: list[str]
) -> None:
    del chart  # skips where Helm is not
    import helm_python  # noqa: PLC0415 -- as above

    with pytest.raises(helm_python.HelmError) as refused:
        render(values)
    for words in says:
        assert words in str(refused.value)
    assert "not-a-key" not in str(refused.value)


def test_what_an_operator_may_set_renders() -> None:
    rendered = render(
        {
            "global": {"of": "another chart"},
            "env": {"BYOK_LOG_LEVEL": "debug", "BYOK_KEY_THREADS": 4, "AWS_REGION": "eu-west-1"},
            "workers": {
                "events": None,
                "analyses": None,
                "all": {"queues": [*QueueGroup], "replicas": 1, "resources": LIMITS},
            },
            "podDisruptionBudget": {"maxUnavailable": "50%"},
            "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
        }
    )
    deployments = rendered.of("Deployment")
    assert set(deployments) == {"byok-worker-all", "byok-scheduler"}
    worker, _ = of_pod("all", deployments["byok-worker-all"]["spec"]["template"]["spec"])
    assert worker.environment["BYOK_KEY_THREADS"] == "4"


def test_only_variables_that_there_are_may_be_set_and_no_secret() -> None:
    schema = json.loads((FILES / "helm" / "byok" / "values.schema.json").read_text())
    # What the chart sets itself: what is mounted where, and which port is whose.
    own = {"state_dir", "queues", "exporter_host", "exporter_port", "health_host", "health_port"}
    # What the sandbox keeps is readable mail: for tests on this machine, not for a cluster.
    own.add("sandbox_record")
    free = {
        str(field.validation_alias or f"BYOK_{name.upper()}")
        for name, field in Settings.model_fields.items()
        if name not in {*own, *SECRETS}
    }
    aws = {"AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS", "AWS_REGION"}
    assert set(schema["definitions"]["env"]["propertyNames"]["enum"]) == free | aws
