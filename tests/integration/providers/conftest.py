"""Both adapters over real HTTP against the provider sandbox."""

from collections.abc import Callable, Iterator

import pytest
from pydantic import SecretStr

from deploy.local.sandbox import SandboxServer
from events.keys import Provider
from tests.sent import searched_sandbox
from workers.providers import AnthropicClient, OpenAIClient, ProviderClient


@pytest.fixture(scope="session")
def running_sandbox() -> Iterator[SandboxServer]:
    """One server for all tests of this directory."""
    with searched_sandbox(own_questions=True) as server:
        yield server


@pytest.fixture
def sandbox(running_sandbox: SandboxServer) -> Iterator[SandboxServer]:
    """The sandbox with nothing remembered."""
    running_sandbox.reset()
    yield running_sandbox
    running_sandbox.reset()


@pytest.fixture
def connect(sandbox: SandboxServer) -> Callable[..., ProviderClient]:
    """Make the real client of a provider; call it on the event loop that shall use it."""

    def make(provider: Provider, **options: float) -> ProviderClient:
        if provider is Provider.OPENAI:
            return OpenAIClient(base_url=sandbox.openai_url, **options)  # type: ignore[arg-type]
        return AnthropicClient(base_url=sandbox.anthropic_url, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def key_with() -> Callable[[Provider, str], SecretStr]:
    """Make a key of a provider that fails in a given way; `none` is a key that works."""

    def make(provider: Provider, fault: str) -> SecretStr:
        start = "sk-proj-fake" if provider is Provider.OPENAI else "sk-ant-api03-fake"
        return SecretStr(f"{start}-sandbox-{fault}-0000")

    return make
