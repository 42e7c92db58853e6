"""Configuration. This is the one file that reads the environment.

Every setting is described here; `docs/configuration.md` is made from it.
"""

import base64
import getpass
import os
import re
import secrets
from decimal import Decimal
from difflib import get_close_matches
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from deploy.local.valkey import socket_path
from events.analyses import MODEL_NAME, Operation
from events.broker import AMQP_SCHEMES, REDIS_SCHEMES, scheme_of
from events.keys import Provider
from events.sealing import SealingKeys, SealingPublicKey, parse_named_key, seal
from events.signing import SigningKey, Sources

SANDBOX_PLATFORM_KEYS = {
    Provider.OPENAI: "sk-proj-sandbox-platform-not-a-real-key",
    Provider.ANTHROPIC: "sk-ant-api03-sandbox-platform-not-a-real-key",
}
"""What the platform "pays" with where the provider sandbox stands in for a provider."""


_SERVICES = (
    "BYOK_BROKER_URL",
    "BYOK_REDIS_URL",
    "BYOK_DATABASE_URL",
    "BYOK_MASTER_KEYS",
    "BYOK_SEALING_KEYS",
    "BYOK_SEALING_PUBLIC_KEY",
    "BYOK_SUBSCRIBER_PUBLIC_KEY",
    "BYOK_PUBLISHERS",
    "BYOK_SIGNING_KEY",
    "BYOK_QUEUES",
    "BYOK_EXPORTER_PORT",
    "BYOK_HEALTH_PORT",
)

SECRETS = (
    "broker_url",
    "redis_url",
    "database_url",
    "master_keys",
    "sealing_keys",
    "publishers",
    "signing_key",
    "platform_openai_key",
    "platform_anthropic_key",
)
"""The settings that may lie in a file, which `<variable>_FILE` names."""


class ConfigurationError(ValueError):
    """A setting is wrong or missing. The message is one sentence that says what to do."""


class KmsName(str):
    """What names a key of AWS KMS: an ARN, a key id or an alias."""

    __slots__ = ()


_KMS_NAME = re.compile(
    r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/[\w/-]{1,256}|alias/[\w/-]{1,256}"
    r"|(mrk-)?[0-9A-Fa-f-]{32,36}",
    re.ASCII,
)


class QueueGroup(StrEnum):
    """Queues that share a worker's threads. `events` are those of accounts and of keys."""

    EVENTS = "events"
    VALIDATIONS = "validations"
    ANALYSES = "analyses"
    USAGE = "usage"


class UnknownAttempts(StrEnum):
    """What to do with a request whose call was lost with its worker."""

    RERUN = "rerun"
    HOLD = "hold"


class _SecretFiles(PydanticBaseSettingsSource):
    """Secrets that lie in files: the environment of a process is seen by whoever inspects it."""

    def __call__(self) -> dict[str, Any]:
        found = {name: self._read(name) for name in SECRETS}
        return {name: value for name, value in found.items() if value is not None}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        del field
        return self._read(field_name), field_name, False

    def _read(self, name: str) -> str | None:
        variable = f"BYOK_{name.upper()}"
        path = os.environ.get(f"{variable}_FILE")
        if not path:
            return None
        if os.environ.get(variable):
            raise ConfigurationError(
                f"{variable} and {variable}_FILE are both set: keep one of them."
            )
        return _read_secret(Path(path), f"check {variable}_FILE")


class Settings(BaseSettings):
    """The settings, by environment variables named `BYOK_` and the field."""

    model_config = SettingsConfigDict(
        env_prefix="BYOK_",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    state_dir: Path = Field(
        Path(".byok"), description="Where embedded services, metrics and sockets keep their files."
    )
    broker_url: str | None = Field(
        None,
        description="The message queue: `redis://`, `rediss://`, `unix://`, `amqp://` or "
        "`amqps://`. Not set: an embedded Valkey.",
    )
    redis_url: str | None = Field(
        None,
        description="The out-event stream and rate limits. Not set: the broker's Redis, at the "
        "next database number; without one, the embedded Valkey.",
    )
    database_url: str | None = Field(
        None,
        description="`sqlite:///…` or `postgresql+psycopg://…`. Not set: SQLite in the state "
        "directory.",
    )
    master_keys: SecretStr | None = Field(
        None,
        description="`id:base64,…`, or `id:kms:<ARN or alias>` for a key held by AWS KMS (extra "
        "`kms`; region and endpoint as boto3 reads them). The first wraps new data "
        "keys. Embedded: generated.",
    )
    kms_cache_keys: int = Field(
        10_000,
        ge=0,
        le=10_000_000,
        description="How many data keys unwrapped by KMS a process keeps in memory (400 bytes "
        "each); 0: none.",
    )
    kms_cache_seconds: float = Field(300, ge=0, le=86_400, description="How long it keeps one.")
    sealing_keys: SecretStr | None = Field(
        None, description="`id:base64,…`; the first is the current one. Embedded: generated."
    )
    sealing_public_key: str | None = Field(
        None,
        description="`id:base64`: what publishers seal with. Not set: the public half of the "
        "current sealing key.",
    )
    subscriber_public_key: str | None = Field(
        None,
        description="`id:base64`: what summaries and drafts in out-events are sealed with "
        "(`byok keygen sealing`). Not set: they stay in the store.",
    )
    publishers: SecretStr | None = Field(
        None,
        description="JSON: which source may publish which types, and its Ed25519 public keys "
        "(`byok keygen signing`). Not set: nobody may publish. Not needed embedded.",
    )
    source: str = Field("byok/cli", description="The `source` that commands publish as.")
    signing_key: SecretStr | None = Field(
        None,
        description="`id:base64`: what commands sign with (`byok keygen signing`). Not needed "
        "embedded.",
    )
    operator: str | None = Field(
        None,
        description="Who runs commands: the audit trail shows `byok/cli#name`. Not set: the "
        "login name.",
    )
    platform_openai_key: SecretStr | None = Field(
        None, description="The platform's own OpenAI key."
    )
    platform_anthropic_key: SecretStr | None = Field(
        None, description="The platform's own Anthropic key."
    )
    openai_base_url: str | None = Field(
        None,
        validation_alias="OPENAI_BASE_URL",
        description="The endpoint for OpenAI. Not set: OpenAI's own, or the provider sandbox "
        "(embedded, without a platform key).",
    )
    anthropic_base_url: str | None = Field(
        None,
        validation_alias="ANTHROPIC_BASE_URL",
        description="The endpoint for Anthropic. Not set: Anthropic's own, or the provider "
        "sandbox, as above.",
    )
    openai_model: str = Field("gpt-5.4-mini", description="The OpenAI model.")
    anthropic_model: str = Field("claude-haiku-5-5", description="The Anthropic model.")
    openai_models: Annotated[dict[Operation, str], NoDecode] = Field(
        {},
        description="Operations that use another OpenAI model: "
        "`summarize=gpt-5.4-nano,reply=gpt-5.4`.",
    )
    anthropic_models: Annotated[dict[Operation, str], NoDecode] = Field(
        {}, description="The same for Anthropic."
    )
    plans: Annotated[tuple[str, ...], NoDecode] = Field(
        ("business", "enterprise", "lifetime"), description="Plans that include BYOK."
    )
    category_plans: Annotated[tuple[str, ...], NoDecode] = Field(
        ("pro", "business", "enterprise", "lifetime"),
        description="Plans that include custom categories.",
    )
    platform_order: Annotated[tuple[Provider, ...], NoDecode] = Field(
        (Provider.OPENAI, Provider.ANTHROPIC),
        description="Which provider the platform's keys try first for `auto`.",
    )
    ledger_months: int = Field(
        0,
        ge=0,
        le=1_200,
        description="How many months the ledger keeps besides the current one; 0: all. Totals "
        "made from dropped months stay: cards, budgets, per-key counts.",
    )
    platform_budget_usd: Decimal | None = Field(
        None,
        ge=0,
        max_digits=12,
        decimal_places=2,
        description="What the platform's keys may cost per calendar month (UTC). Beyond it, "
        "requests on them are skipped (`budget`). Not set: no limit.",
    )
    budget_soft_share: float = Field(
        0.8,
        gt=0,
        le=1,
        description="The share of a budget (key, account or platform) at which `budget.reached` "
        "is sent, once a month.",
    )
    unknown_attempts: UnknownAttempts = Field(
        UnknownAttempts.RERUN,
        description="What to do with a request whose call was lost: run it once more, or hold it.",
    )
    queues: Annotated[tuple[QueueGroup, ...], NoDecode] = Field(
        tuple(QueueGroup),
        min_length=1,
        description="Which queues a worker process takes from; `events` are accounts and keys.",
    )
    analysis_threads: int = Field(
        64, ge=1, le=2048, description="Analyses in flight in one worker process."
    )
    key_threads: int = Field(
        8, ge=1, le=256, description="Key events, and validations, in flight in one worker process."
    )
    reuse_hours: float = Field(
        24,
        ge=0,
        le=8_760,
        description="How long a result answers an identical request of the same account without "
        "a call; 0: never.",
    )
    revalidate_hours: float = Field(
        24,
        gt=0,
        description="How often a key is validated again, at its own moment of the period. One "
        "that requests have proved since then is skipped.",
    )
    validations_per_second: float = Field(
        20, ge=0.01, le=10_000, description="Due validations sent per second, for each provider."
    )
    exporter_host: str = Field("127.0.0.1", description="Where `/metrics` is served.")
    exporter_port: int = Field(
        9464,
        ge=0,
        le=65535,
        description="Its port; embedded, a free one unless set. The address is in "
        "`exporter.url` in the state directory.",
    )
    health_host: str = Field(
        "127.0.0.1", description="Where each role serves `/livez` and `/readyz`."
    )
    health_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Their port, where each role has an address of its own (a pod); 0: a free "
        "one for each role.",
    )
    otlp_endpoint: str | None = Field(
        None,
        description="The base address of a collector that takes OTLP over HTTP (extra `otel`). "
        "Not set: no traces.",
    )
    event_stream_length: int = Field(
        100_000, ge=100, description="How many out-events the stream keeps."
    )
    keep_events_days: int = Field(
        30, ge=1, le=36_500, description="How long the stream keeps an out-event at most."
    )
    # Longer than a message can come again: dead letters lie for 7 days, a signature holds for 3.
    keep_requests_days: int = Field(
        90,
        ge=8,
        le=36_500,
        description="How long a finished request is kept, with its result, attempts and id. "
        "Sent again after that, the id is a new request.",
    )
    keep_set_aside_days: int = Field(
        90, ge=1, le=36_500, description="How long a message that was set aside is kept."
    )
    sandbox_latency: float = Field(
        0.05, ge=0, description="How many seconds the provider sandbox takes to answer."
    )
    sandbox_record: Path | None = Field(
        None,
        description="A file to which the provider sandbox appends each request that it "
        "receives: mails readable, keys left out.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe log level that is written."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment, and the files that it names."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, _SecretFiles(settings_cls)

    @field_validator("plans", "category_plans", "platform_order", "queues", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip().lower() for part in value.split(",") if part.strip())
        return value

    @field_validator("openai_models", "anthropic_models", mode="before")
    @classmethod
    def _by_operation(cls, value: object) -> object:
        return _models(value) if isinstance(value, str) else value

    @field_validator("openai_model", "anthropic_model")
    @classmethod
    def _names_a_model(cls, name: str) -> str:
        if not MODEL_NAME.fullmatch(name):
            raise ValueError("it is no name of a model")
        return name

    @field_validator("state_dir", "sandbox_record")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        try:
            return None if path is None else path.expanduser().resolve()
        except RuntimeError:
            raise ValueError("it begins with the home directory of nobody here") from None

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("broker_url")
    @classmethod
    def _reaches_a_queue(cls, url: str | None) -> str | None:
        return _with_scheme(url, *REDIS_SCHEMES, *AMQP_SCHEMES)

    @field_validator("redis_url")
    @classmethod
    def _reaches_redis(cls, url: str | None) -> str | None:
        return _with_scheme(url, *REDIS_SCHEMES)

    @field_validator("database_url")
    @classmethod
    def _reaches_a_database(cls, url: str | None) -> str | None:
        return _with_scheme(url, "sqlite", "postgresql", "postgresql+psycopg")

    @field_validator("subscriber_public_key")
    @classmethod
    def _can_be_sealed_to(cls, text: str | None) -> str | None:
        # Tried here: a completion that cannot be sealed would fail after it was paid for.
        try:
            if text is not None:
                seal(b"", SealingPublicKey.parse(text), b"")
        except ValueError:
            raise ValueError(
                "it must be the public half of a key pair as `id:base64`, as `byok keygen sealing` "
                "makes them"
            ) from None
        return text

    @classmethod
    def load(cls) -> Self:
        """Read the environment. Raises `ConfigurationError` naming the first wrong variable."""
        try:
            return cls()
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            name = str(first["loc"][0])
            variable = name if name.isupper() else f"BYOK_{name.upper()}"
            told = first["msg"].removeprefix("Value error, ")
            raise ConfigurationError(f"{variable} is wrong: {told}.") from None

    @classmethod
    def load_apart(cls, state_dir: Path) -> Self:
        """Settings for this process and its children under a state directory of their own.

        Takes the services' addresses and keys out of the environment, so that everything is
        embedded; the platform's keys, the providers' endpoints and the models stay.
        """
        for variable in _SERVICES:
            os.environ.pop(variable, None)
            os.environ.pop(f"{variable}_FILE", None)
        os.environ["BYOK_STATE_DIR"] = str(state_dir)
        return cls.load()

    @property
    def embedded_valkey(self) -> bool:
        """Whether Valkey runs embedded: for the queue, or for stream and limits alone."""
        if self.broker_url is None:
            return True
        return self.redis_url is None and scheme_of(self.broker_url) not in REDIS_SCHEMES

    @property
    def embedded(self) -> bool:
        """Whether nothing outside is used: no broker and no database was given."""
        return self.broker_url is None and self.database_url is None

    @property
    def valkey_socket(self) -> Path:
        """The embedded Valkey's socket."""
        return socket_path(self.state_dir)

    @property
    def effective_broker_url(self) -> str:
        """The message queue's address."""
        return self.broker_url or self._embedded_url(0)

    @property
    def effective_redis_url(self) -> str:
        """The address of stream and limits: their own database number beside the queue's."""
        if self.redis_url:
            return self.redis_url
        if self.broker_url is None:
            return self._embedded_url(1)
        if scheme_of(self.broker_url) not in REDIS_SCHEMES:
            return self._embedded_url(1)
        return _beside(self.broker_url)

    @property
    def effective_database_url(self) -> str:
        """The database's address."""
        return self.database_url or f"sqlite:///{self.state_dir / 'byok.sqlite3'}"

    @property
    def effective_exporter_port(self) -> int:
        """The exporter's port; 0 is a free one."""
        given = "exporter_port" in self.model_fields_set
        return self.exporter_port if given or not self.embedded else 0

    @property
    def metrics_dir(self) -> Path:
        """Where the processes of this machine leave their metrics for the exporter."""
        return self.state_dir / "metrics"

    @property
    def sandbox_url_file(self) -> Path:
        """Where a running provider sandbox says its address."""
        return self.state_dir / "sandbox.url"

    def uses_sandbox(self, provider: Provider) -> bool:
        """Whether the provider sandbox stands in for `provider`."""
        return (
            self.embedded
            and self._given_platform_key(provider) is None
            and self._given_base_url(provider) is None
        )

    def base_url(self, provider: Provider) -> str | None:
        """The endpoint to call; `None` is the SDK's own. Raises `ConfigurationError`."""
        if not self.uses_sandbox(provider):
            return self._given_base_url(provider)
        try:
            url = self.sandbox_url_file.read_text().strip()
        except FileNotFoundError:
            raise ConfigurationError(
                "The provider sandbox is not running: start `byok up`, or set a platform key or "
                "a base URL of the provider."
            ) from None
        return f"{url}/v1" if provider is Provider.OPENAI else url

    def platform_key(self, provider: Provider) -> SecretStr | None:
        """The platform's key for `provider`, or `None` where the platform has none."""
        if self.uses_sandbox(provider):
            return SecretStr(SANDBOX_PLATFORM_KEYS[provider])
        return self._given_platform_key(provider)

    def model(self, provider: Provider, operation: Operation | None = None) -> str:
        """The model that is asked at `provider`: the operation's own, or the one for all else."""
        if provider is Provider.OPENAI:
            own, usual = self.openai_models, self.openai_model
        else:
            own, usual = self.anthropic_models, self.anthropic_model
        return usual if operation is None else own.get(operation, usual)

    @cached_property
    def master_key_ring(self) -> dict[str, bytes | KmsName]:
        """The master keys by id, the current one first: 32 bytes, or a key that KMS holds.

        Raises `ConfigurationError`.
        """
        text = self._key_ring(self.master_keys, "master")
        try:
            entries = [_master_key(part) for part in text.split(",") if part.strip()]
        except ValueError as error:
            raise ConfigurationError(f"BYOK_MASTER_KEYS: {error}") from None
        if not entries:
            raise ConfigurationError(
                "BYOK_MASTER_KEYS holds no key: make one with `byok keygen master`."
            )
        ring = dict(entries)
        if len(ring) < len(entries):
            raise ConfigurationError(
                "BYOK_MASTER_KEYS has two keys of one id: give each an id of its own."
            )
        return ring

    @cached_property
    def sealing_key_ring(self) -> SealingKeys:
        """The private sealing keys. Raises `ConfigurationError`."""
        text = self._key_ring(self.sealing_keys, "sealing")
        try:
            return SealingKeys.parse(text)
        except ValueError as error:
            raise ConfigurationError(f"BYOK_SEALING_KEYS: {error}") from None

    @property
    def sealing_public(self) -> SealingPublicKey:
        """The public key to seal with. Raises `ConfigurationError`."""
        if self.sealing_public_key is None:
            return self.sealing_key_ring.current
        try:
            return SealingPublicKey.parse(self.sealing_public_key)
        except ValueError as error:
            raise ConfigurationError(f"BYOK_SEALING_PUBLIC_KEY: {error}") from None

    @cached_property
    def subscriber_public(self) -> SealingPublicKey | None:
        """The public key that free text in out-events is sealed to, or `None`."""
        if self.subscriber_public_key is None:
            return None
        return SealingPublicKey.parse(self.subscriber_public_key)

    @cached_property
    def sources(self) -> Sources:
        """The sources that are believed. Raises `ConfigurationError`."""
        try:
            if self.publishers is not None:
                return Sources.parse(self.publishers.get_secret_value())
        except ValueError as error:
            raise ConfigurationError(f"BYOK_PUBLISHERS is wrong: {error}.") from None
        return Sources({})

    @property
    def signer(self) -> SigningKey | None:
        """What commands sign with, or `None`. Raises `ConfigurationError`."""
        if self.signing_key is None:
            return None
        try:
            return SigningKey.parse(self.signing_key.get_secret_value())
        except ValueError as error:
            raise ConfigurationError(f"BYOK_SIGNING_KEY: {error}") from None

    @property
    def operator_source(self) -> str:
        """The `source` of what a person publishes by command: `<source>#<operator>`.

        The name is what the machine says (`sudo`'s caller before root), and proves nothing: what is
        signed is signed by `source`.
        """
        name = self.operator or os.environ.get("SUDO_USER") or _login_name()
        return f"{self.source}#{_NOT_IN_A_NAME.sub('_', name)[:_LONGEST_NAME]}"

    def make_state_dir(self) -> None:
        """Make the state directory (0700).

        Raises `ConfigurationError` where it cannot be made or written.
        """
        try:
            self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.metrics_dir.mkdir(mode=0o700, exist_ok=True)
            with TemporaryFile(dir=self.state_dir) as tried:
                tried.write(b"byok")
        except OSError as error:
            raise ConfigurationError(
                f"{self.state_dir} cannot be written ({error.strerror}): name a directory of your "
                "own in BYOK_STATE_DIR, on a disk that has room."
            ) from None

    def prepare_state_dir(self) -> None:
        """Make the state directory (0700) and, embedded, the keys that are not there (0600).

        Raises `ConfigurationError`.
        """
        self.make_state_dir()
        if self.embedded:
            for kind, given in (
                ("master", self.master_keys),
                ("sealing", self.sealing_keys),
            ):
                if not given:
                    _generate(self.state_dir / f"{kind}.keys", kind)

    def _key_ring(self, given: SecretStr | None, kind: str) -> str:
        if given is not None:
            return given.get_secret_value()
        if not self.embedded:
            variable = f"BYOK_{kind.upper()}_KEYS"
            raise ConfigurationError(
                f"{variable} is not set: make a key with `byok keygen {kind}` and set {variable} "
                f"or {variable}_FILE."
            )
        return _read_secret(self.state_dir / f"{kind}.keys", "start `byok up` once to make it")

    def _embedded_url(self, database: int) -> str:
        return f"unix://{quote(str(self.valkey_socket))}?db={database}"

    def _given_platform_key(self, provider: Provider) -> SecretStr | None:
        key = (
            self.platform_openai_key if provider is Provider.OPENAI else self.platform_anthropic_key
        )
        return key if key is not None and key.get_secret_value() else None

    def _given_base_url(self, provider: Provider) -> str | None:
        return self.openai_base_url if provider is Provider.OPENAI else self.anthropic_base_url


def _read_secret(path: Path, hint: str) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        raise ConfigurationError(f"There is no file {path}: {hint}.") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not a text file: {hint}.") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}): {hint}.") from None


_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._@+-]")
_LONGEST_NAME = 64


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container that runs as a number without a name.
        return f"uid-{os.getuid()}"


def _master_key(text: str) -> tuple[str, bytes | KmsName]:
    """Read `id:base64` or `id:kms:<name>`. Raises `ValueError`, never with the value."""
    key_id, _, rest = text.strip().partition(":")
    if not rest.startswith("kms:"):
        return parse_named_key(text, what="master key")
    name = rest.removeprefix("kms:")
    if not key_id or "." in key_id or not _KMS_NAME.fullmatch(name):
        raise ValueError(
            "a master key that KMS holds is written `id:kms:<ARN, key id or alias/name>`, without "
            "a dot in the id"
        )
    return key_id, KmsName(name)


def _models(text: str) -> dict[Operation, str]:
    """Read `operation=model,…`. Raises `ValueError`."""
    found: dict[Operation, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        operation, _, model = (piece.strip() for piece in part.partition("="))
        if operation not in tuple(Operation) or not MODEL_NAME.fullmatch(model):
            raise ValueError(
                f"write operation=model,…, the operation being one of {', '.join(Operation)}"
            )
        if Operation(operation) in found:
            raise ValueError(f"it names two models for {operation}")
        found[Operation(operation)] = model
    return found


def misspelt() -> dict[str, str]:
    """Variables of the environment that are no settings, and the settings that they look like."""
    known = {
        str(field.validation_alias or f"BYOK_{name.upper()}")
        for name, field in Settings.model_fields.items()
    }
    known |= {f"BYOK_{name.upper()}_FILE" for name in SECRETS}
    found = {}
    for name in sorted(os.environ):
        if name.startswith("BYOK_") and name not in known:
            # Others may name variables of their own as ours: only what is a letter or two off.
            for setting in get_close_matches(name, known, n=1, cutoff=0.9):
                found[name] = setting
    return found


def _beside(url: str) -> str:
    """The same Redis at another database number than `url` has."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    given = query.pop("db", None) or (parts.path.strip("/") if parts.scheme != "unix" else "")
    number = (int(given) if given.isdecimal() else 0) + 1
    if parts.scheme == "unix":
        # `urlunsplit` would leave out the `//` of a scheme that it does not know.
        return f"{url.partition('?')[0]}?{urlencode({**query, 'db': number})}"
    return urlunsplit(parts._replace(path=f"/{number}", query=urlencode(query)))


def _with_scheme(url: str | None, *schemes: str) -> str | None:
    """Give `url` back. Raises `ValueError` where it is none with one of `schemes`."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 -- reading it checks it
    except ValueError:
        raise ValueError("it is not an address") from None
    if parts.scheme not in schemes:
        raise ValueError(f"it must begin with {', '.join(f'{s}://' for s in schemes)}")
    return url


def new_named_key(kind: str) -> str:
    """A fresh key of 32 random bytes as `id:base64`, the id telling its kind."""
    return f"{kind[0]}{secrets.token_hex(3)}:{base64.b64encode(secrets.token_bytes(32)).decode()}"


def _generate(path: Path, kind: str) -> None:
    if path.exists():
        return
    made = path.with_suffix(f".{secrets.token_hex(4)}")
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(new_named_key(kind) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        # Whole or not at all, and the first of two commands that start at once: never two keys.
        os.link(made, path)
    except FileExistsError:
        pass
    finally:
        made.unlink()
