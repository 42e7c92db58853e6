"""Configuration: defaults that need nothing, and one sentence for each wrong variable."""

import base64
import os
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.connection import parse_url

from events import Operation, Provider
from workers.settings import (
    SECRETS,
    ConfigurationError,
    QueueGroup,
    Settings,
    UnknownAttempts,
    new_named_key,
)

OPENAI, ANTHROPIC = Provider.OPENAI, Provider.ANTHROPIC


def named(key_id: str, fill: int = 1) -> str:
    return f"{key_id}:{base64.b64encode(bytes([fill]) * 32).decode()}"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment that says nothing but where the state directory is."""
    for name in list(os.environ):
        if name.startswith("BYOK_") or name.endswith("_BASE_URL"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BYOK_STATE_DIR", str(tmp_path / "state"))


def load(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    """The settings of an environment with these variables."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Settings.load()


# Nothing set


def test_with_nothing_set_everything_is_embedded(tmp_path: Path) -> None:
    settings = Settings.load()
    assert settings.embedded
    assert settings.embedded_valkey
    assert settings.effective_broker_url.startswith("unix://")
    assert settings.effective_database_url == f"sqlite:///{tmp_path / 'state'}/byok.sqlite3"
    assert settings.exporter_host == "127.0.0.1"
    assert settings.effective_exporter_port == 0
    for provider in Provider:
        assert settings.uses_sandbox(provider)
        key = settings.platform_key(provider)
        assert key is not None
        assert "not-a-real-key" in key.get_secret_value()


def test_queue_and_stream_have_a_database_of_their_own() -> None:
    settings = Settings.load()
    queue = parse_url(settings.effective_broker_url)
    stream = parse_url(settings.effective_redis_url)
    assert queue["path"] == stream["path"] == str(settings.valkey_socket)
    assert (queue.get("db", 0), stream["db"]) == (0, 1)


def test_the_defaults_are_the_products() -> None:
    settings = Settings.load()
    assert settings.plans == ("business", "enterprise", "lifetime")
    assert settings.platform_order == (OPENAI, ANTHROPIC)
    assert settings.unknown_attempts is UnknownAttempts.RERUN
    assert settings.revalidate_hours == 24
    assert settings.reuse_hours == 24
    assert settings.subscriber_public is None


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(
        monkeypatch,
        BYOK_BROKER_URL="",
        BYOK_DATABASE_URL="",
        BYOK_PLATFORM_OPENAI_KEY="",
        OPENAI_BASE_URL="",
        BYOK_ANALYSIS_THREADS="",
    )
    assert settings.embedded
    assert settings.uses_sandbox(OPENAI)
    assert settings.analysis_threads == 64


def test_the_state_directory_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(monkeypatch, BYOK_STATE_DIR="here/../there")
    assert settings.state_dir == tmp_path / "there"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(monkeypatch, BYOK_STATE_DIR="~/byok").state_dir == tmp_path / "byok"


# Wrong variables

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BYOK_ANALYSIS_THREADS", f"{SECRET}"),
        ("BYOK_ANALYSIS_THREADS", "0"),
        ("BYOK_ANALYSIS_THREADS", "2049"),
        ("BYOK_ANALYSIS_THREADS", "1.5"),
        ("BYOK_KEY_THREADS", "-1"),
        ("BYOK_SUBSCRIBER_PUBLIC_KEY", f"s1:{SECRET}"),
        ("BYOK_SUBSCRIBER_PUBLIC_KEY", named("s1", 0)),  # a point that gives no secret
        ("BYOK_REUSE_HOURS", "-1"),
        ("BYOK_REUSE_HOURS", "inf"),
        ("BYOK_REUSE_HOURS", f"{SECRET}"),
        ("BYOK_REVALIDATE_HOURS", "0"),
        ("BYOK_REVALIDATE_HOURS", f"{SECRET}"),
        ("BYOK_EXPORTER_PORT", "65536"),
        ("BYOK_EVENT_STREAM_LENGTH", "99"),
        ("BYOK_SANDBOX_LATENCY", "-0.1"),
        ("BYOK_PLATFORM_ORDER", f"openai,{SECRET}"),
        ("BYOK_UNKNOWN_ATTEMPTS", f"{SECRET}"),
        ("BYOK_LOG_LEVEL", f"{SECRET}"),
        ("BYOK_STATE_DIR", f"~nobody-of-this-name/{SECRET}"),
        ("BYOK_BROKER_URL", f"http://user:{SECRET}@host"),
        ("BYOK_BROKER_URL", f"{SECRET}"),
        ("BYOK_REDIS_URL", f"http://user:{SECRET}@host"),
        ("BYOK_REDIS_URL", f"{SECRET}"),
        ("BYOK_DATABASE_URL", f"mysql://user:{SECRET}@host/db"),
        ("BYOK_DATABASE_URL", f"{SECRET}"),
    ],
)
def test_a_wrong_variable_is_named_and_its_value_is_not(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(monkeypatch, **{variable: value})
    told = str(caught.value)
    assert variable in told
    assert SECRET not in told
    assert "\n" not in told
    assert told.endswith(".")


@pytest.mark.parametrize(
    ("variable", "value", "read"),
    [
        ("BYOK_MASTER_KEYS", f"m1:{SECRET}", "master_key_ring"),
        ("BYOK_MASTER_KEYS", SECRET, "master_key_ring"),
        ("BYOK_MASTER_KEYS", ",", "master_key_ring"),
        ("BYOK_MASTER_KEYS", f"{named('m1')},m2:{SECRET}", "master_key_ring"),
        ("BYOK_SEALING_KEYS", f"s1:{SECRET}", "sealing_key_ring"),
        ("BYOK_SEALING_KEYS", ",", "sealing_key_ring"),
        ("BYOK_SEALING_KEYS", named("s.1"), "sealing_key_ring"),
        ("BYOK_SEALING_PUBLIC_KEY", f"s1:{SECRET}", "sealing_public"),
        ("BYOK_SIGNING_KEY", f"k1:{SECRET}", "signer"),
        ("BYOK_PUBLISHERS", SECRET, "sources"),
        ("BYOK_PUBLISHERS", f'{{"a": {{"keys": ["{SECRET}"]}}}}', "sources"),
    ],
)
def test_a_wrong_key_is_told_by_its_variable_without_its_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, read: str
) -> None:
    settings = load(monkeypatch, **{variable: value})
    with pytest.raises(ConfigurationError) as caught:
        getattr(settings, read)
    told = str(caught.value)
    assert variable in told
    assert SECRET not in told
    assert "\n" not in told


def test_no_secret_is_in_the_settings_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(
        monkeypatch,
        BYOK_MASTER_KEYS=f"m1:{SECRET}",
        BYOK_SEALING_KEYS=f"s1:{SECRET}",
        BYOK_SIGNING_KEY=f"k1:{SECRET}",
        BYOK_PLATFORM_OPENAI_KEY=f"sk-{SECRET}",
        BYOK_PLATFORM_ANTHROPIC_KEY=f"sk-ant-{SECRET}",
    )
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert SECRET not in settings.model_dump_json()


# Addresses


@pytest.mark.parametrize(
    ("broker", "database"),
    [
        ("redis://host", 1),
        ("redis://host/", 1),
        ("redis://host:6380/0", 1),
        ("redis://user:p%40ss@host:6380/0", 1),
        ("redis://[::1]:6380/0", 1),
        ("redis://host:6380/0?protocol=3", 1),
        ("redis://host:6380?db=0", 1),
        ("rediss://host:6380/0?ssl_cert_reqs=none", 1),
        ("redis://host/4", 5),
        ("redis://host/4?db=1", 2),
        ("unix:///run/valkey.sock?db=1", 2),
        ("unix:///run/valkey.sock", 1),
        ("unix:///run/valkey.sock?db=0", 1),
        ("unix://user:p%40ss@/run/valkey.sock?db=0&protocol=3", 1),
    ],
)
def test_the_stream_is_beside_the_queue_in_another_database(
    monkeypatch: pytest.MonkeyPatch, broker: str, database: int
) -> None:
    settings = load(monkeypatch, BYOK_BROKER_URL=broker)
    queue = dict(parse_url(settings.effective_broker_url))
    stream = dict(parse_url(settings.effective_redis_url))
    assert stream.pop("db") == database
    queue.pop("db", None)
    # Everything else is the same: host, user, password, certificates.
    assert stream == queue
    assert settings.effective_redis_url.partition("://")[0] == broker.partition("://")[0]


def test_beside_rabbitmq_the_stream_is_in_an_embedded_valkey(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = load(monkeypatch, BYOK_BROKER_URL="amqp://guest@host")
    assert settings.embedded_valkey
    assert not settings.embedded
    assert settings.effective_redis_url.startswith("unix://")


def test_an_address_that_is_given_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(
        monkeypatch,
        BYOK_BROKER_URL="redis://host/4",
        BYOK_REDIS_URL="redis://other/5",
        BYOK_DATABASE_URL="postgresql+psycopg://host/db",
    )
    assert settings.effective_broker_url == "redis://host/4"
    assert settings.effective_redis_url == "redis://other/5"
    assert settings.effective_database_url == "postgresql+psycopg://host/db"
    assert not settings.embedded
    assert not settings.embedded_valkey
    assert settings.effective_exporter_port == 9464


# Keys


def test_keys_are_read_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(
        monkeypatch,
        BYOK_MASTER_KEYS=f" {named('m2', 2)} , {named('m1', 1)},",
        BYOK_SEALING_KEYS=f"{named('s2', 2)},{named('s1', 1)}",
    )
    assert settings.master_key_ring == {"m2": bytes([2]) * 32, "m1": bytes([1]) * 32}
    assert list(settings.master_key_ring) == ["m2", "m1"]
    assert settings.sealing_public.key_id == "s2"


def test_every_secret_may_lie_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secrets = {
        "BROKER_URL": "rediss://worker:hunter2@queue/0",
        "REDIS_URL": "rediss://worker:hunter2@queue/1",
        "DATABASE_URL": "postgresql://worker:hunter2@db/byok",
        "MASTER_KEYS": named("m", 3),
        "SEALING_KEYS": named("s", 4),
        "PUBLISHERS": "{}",
        "SIGNING_KEY": named("g", 5),
        "PLATFORM_OPENAI_KEY": "sk-proj-not-a-real-key",
        "PLATFORM_ANTHROPIC_KEY": "sk-ant-not-a-real-key",
    }
    assert {name.lower() for name in secrets} == set(SECRETS)
    for name, secret in secrets.items():
        (tmp_path / name).write_text(f"{secret}\n")
        monkeypatch.setenv(f"BYOK_{name}_FILE", str(tmp_path / name))
    settings = Settings.load()
    for name, secret in secrets.items():
        held = getattr(settings, name.lower())
        assert (held.get_secret_value() if isinstance(held, SecretStr) else held) == secret
    assert settings.master_key_ring == {"m": bytes([3]) * 32}
    assert list(settings.sealing_key_ring.private) == ["s"]
    assert settings.platform_key(OPENAI) == SecretStr("sk-proj-not-a-real-key")
    assert not settings.embedded


def test_a_secret_that_is_given_twice_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text(named("file"))
    with pytest.raises(ConfigurationError, match="BYOK_MASTER_KEYS_FILE are both set"):
        load(
            monkeypatch,
            BYOK_MASTER_KEYS=named("given"),
            BYOK_MASTER_KEYS_FILE=str(tmp_path / "keys"),
        )


@pytest.mark.parametrize("kind", ["MASTER", "SEALING"])
def test_a_file_of_keys_that_cannot_be_read_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    variable = f"BYOK_{kind}_KEYS_FILE"
    ring = f"{kind.lower()}_key_ring"
    binary, empty, folder = tmp_path / "binary", tmp_path / "empty", tmp_path / "folder"
    binary.write_bytes(b"\xff\xfe\x00hunter2")
    empty.write_text("\n")
    folder.mkdir()
    for path in (tmp_path / "missing", folder, binary, empty):
        with pytest.raises(ConfigurationError) as caught:
            getattr(load(monkeypatch, **{variable: str(path)}), ring)
        assert "hunter2" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_worker_takes_all_queues_or_those_that_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Settings.load().queues == tuple(QueueGroup)
    settings = load(monkeypatch, BYOK_QUEUES="analyses, usage")
    assert settings.queues == (QueueGroup.ANALYSES, QueueGroup.USAGE)
    for wrong in ("analyses,mails", ","):
        with pytest.raises(ConfigurationError, match="BYOK_QUEUES is wrong"):
            load(monkeypatch, BYOK_QUEUES=wrong)


def test_beside_real_services_keys_are_not_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, BYOK_BROKER_URL="redis://host/0")
    settings.prepare_state_dir()
    assert not list(settings.state_dir.glob("*.keys"))
    with pytest.raises(
        ConfigurationError, match=r"BYOK_MASTER_KEYS is not set.*byok keygen master"
    ):
        settings.master_key_ring  # noqa: B018 -- reading it is what is tested
    with pytest.raises(ConfigurationError, match=r"BYOK_SEALING_KEYS is not set"):
        settings.sealing_key_ring  # noqa: B018 -- as above


def test_embedded_keys_are_made_once_and_are_nobody_elses_to_read() -> None:
    settings = Settings.load()
    before = os.umask(0)
    try:
        settings.prepare_state_dir()
    finally:
        os.umask(before)
    made = {path.name: path.read_text() for path in settings.state_dir.glob("*.keys")}
    assert set(made) == {"master.keys", "sealing.keys"}
    for name in made:
        assert stat.S_IMODE((settings.state_dir / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.state_dir.stat().st_mode) == 0o700
    again = Settings.load()
    again.prepare_state_dir()
    assert {p.name: p.read_text() for p in again.state_dir.glob("*.keys")} == made
    assert again.master_key_ring == settings.master_key_ring
    assert len(next(iter(again.master_key_ring.values()))) == 32


def test_before_they_are_made_embedded_keys_are_missed_in_one_sentence() -> None:
    with pytest.raises(ConfigurationError, match="start `byok up` once to make it"):
        Settings.load().master_key_ring  # noqa: B018 -- as above


def test_embedded_keys_that_are_given_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, BYOK_MASTER_KEYS=named("m1"))
    settings.prepare_state_dir()
    assert [path.name for path in settings.state_dir.glob("*.keys")] == ["sealing.keys"]


@pytest.mark.parametrize("kind", ["master", "sealing"])
def test_a_new_key_is_like_no_other(kind: str) -> None:
    made = {new_named_key(kind) for _ in range(50)}
    assert len(made) == 50
    for text in made:
        key_id, _, encoded = text.partition(":")
        assert key_id.startswith(kind[0])
        assert len(base64.b64decode(encoded, validate=True)) == 32


def test_a_publisher_needs_the_public_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(
        monkeypatch, BYOK_BROKER_URL="redis://host", BYOK_SEALING_PUBLIC_KEY=named("s1", 9)
    )
    assert settings.sealing_public.key_id == "s1"


# Providers


@pytest.mark.parametrize("provider", Provider)
def test_a_real_platform_key_ends_the_sandbox_for_its_provider(
    monkeypatch: pytest.MonkeyPatch, provider: Provider
) -> None:
    settings = load(monkeypatch, **{f"BYOK_PLATFORM_{provider.upper()}_KEY": "sk-fake-real"})
    key = settings.platform_key(provider)
    assert key is not None
    assert key.get_secret_value() == "sk-fake-real"
    assert settings.base_url(provider) is None
    assert [p for p in Provider if settings.uses_sandbox(p)] == [
        p for p in Provider if p is not provider
    ]


@pytest.mark.parametrize("provider", Provider)
def test_an_endpoint_that_is_given_is_called(
    monkeypatch: pytest.MonkeyPatch, provider: Provider
) -> None:
    settings = load(monkeypatch, **{f"{provider.upper()}_BASE_URL": "http://proxy.invalid/v1"})
    assert settings.base_url(provider) == "http://proxy.invalid/v1"
    assert settings.platform_key(provider) is None


def test_beside_real_services_there_is_no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, BYOK_BROKER_URL="redis://host")
    for provider in Provider:
        assert not settings.uses_sandbox(provider)
        assert settings.platform_key(provider) is None
        assert settings.base_url(provider) is None


def test_a_sandbox_that_does_not_run_is_told() -> None:
    settings = Settings.load()
    with pytest.raises(ConfigurationError, match="sandbox is not running"):
        settings.base_url(OPENAI)
    settings.prepare_state_dir()
    settings.sandbox_url_file.write_text("http://127.0.0.1:1\n")
    assert settings.base_url(OPENAI) == "http://127.0.0.1:1/v1"
    assert settings.base_url(ANTHROPIC) == "http://127.0.0.1:1"


def test_lists_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(
        monkeypatch, BYOK_PLANS=" Pro , business,", BYOK_PLATFORM_ORDER="ANTHROPIC, openai"
    )
    assert settings.plans == ("pro", "business")
    assert settings.platform_order == (ANTHROPIC, OPENAI)


def test_an_operation_has_its_own_model_where_one_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = load(
        monkeypatch,
        BYOK_OPENAI_MODEL="gpt-unit-1",
        BYOK_OPENAI_MODELS=" summarize = gpt-unit-small, reply=ft:gpt-unit:acme/1 ,",
        BYOK_ANTHROPIC_MODELS="classify=claude-unit-2",
    )
    assert settings.model(OPENAI) == settings.model(OPENAI, Operation.CLASSIFY) == "gpt-unit-1"
    assert settings.model(OPENAI, Operation.SUMMARIZE) == "gpt-unit-small"
    assert settings.model(OPENAI, Operation.REPLY) == "ft:gpt-unit:acme/1"
    assert settings.model(ANTHROPIC, Operation.CLASSIFY) == "claude-unit-2"
    assert settings.model(ANTHROPIC, Operation.REPLY) == settings.anthropic_model


@pytest.mark.parametrize(
    "wrong", ["gpt-unit-1", "reply=", "reply=a b", "draft=gpt-unit-1", "reply=a,reply=b"]
)
def test_a_list_of_models_that_is_none_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(monkeypatch, BYOK_OPENAI_MODELS=wrong)
    said = str(caught.value)
    assert said.startswith("BYOK_OPENAI_MODELS is wrong: ")
    assert "gpt-unit" not in said
    assert said.endswith(".")


def test_settings_apart_take_no_service_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {
        "BYOK_BROKER_URL": "redis://host",
        "BYOK_REDIS_URL": "redis://host/1",
        "BYOK_DATABASE_URL": "postgresql://host/db",
        "BYOK_MASTER_KEYS": named("m1"),
        "BYOK_SEALING_KEYS": named("s1"),
        "BYOK_EXPORTER_PORT": "9999",
        "BYOK_OPENAI_MODEL": "gpt-unit-1",
    }.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load_apart(tmp_path / "apart")
    assert settings.embedded
    assert settings.state_dir == tmp_path / "apart"
    assert settings.effective_exporter_port == 0
    assert settings.master_keys is None
    assert settings.openai_model == "gpt-unit-1"
