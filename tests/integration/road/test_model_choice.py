"""Which model is asked: the request's, else the operation's, else the provider's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.sandbox import SandboxServer
from events import MailInput, Operation, Provider, ProviderChoice
from tests.conftest import Services
from tests.road import GOOD_ANTHROPIC, GOOD_OPENAI, MAIL, Road, make_settings

pytestmark = pytest.mark.parametrize("services", ["sqlite-valkey"], indirect=True)

OPENAI = {Operation.SUMMARIZE: "gpt-5.4-nano", Operation.REPLY: "gpt-5.4"}
ANTHROPIC = {Operation.REPLY: "claude-sonnet-5-5"}


@pytest.fixture
def road(services: Services, sandbox: SandboxServer, tmp_path: Path) -> Iterator[Road]:
    """The whole system, with models of their own for some operations."""
    settings = make_settings(
        tmp_path,
        broker=services.broker,
        database=services.database,
        sandbox=sandbox,
        redis_url=services.redis,
        openai_models=OPENAI,
        anthropic_models=ANTHROPIC,
    )
    running = Road(settings, sandbox)
    running.start()
    yield running
    running.stop()


def test_each_operation_asks_the_model_that_is_configured_for_it_at_each_provider(
    road: Road,
) -> None:
    road.account()
    for provider, own in ((Provider.OPENAI, OPENAI), (Provider.ANTHROPIC, ANTHROPIC)):
        for operation in (Operation.CLASSIFY, Operation.SUMMARIZE, Operation.REPLY):
            request_id = road.ask(
                mail=MAIL, operation=operation, provider=ProviderChoice(provider.value)
            )
            request = road.ended(request_id)
            assert request.state == "completed"
            expected = own.get(operation, road.settings.model(provider))
            assert request.model == expected
            assert road.sandbox.record(1)[0]["model"] == expected


def test_the_requests_own_model_comes_before_what_is_configured(road: Road) -> None:
    road.account()
    request = road.ended(
        road.ask(operation=Operation.REPLY, provider=ProviderChoice.OPENAI, model="gpt-5.4-nano")
    )
    assert (request.model, road.sandbox.record(1)[0]["model"]) == ("gpt-5.4-nano",) * 2


def test_auto_with_a_model_asks_the_provider_that_has_it(road: Road) -> None:
    road.account()
    road.give_key(GOOD_OPENAI)
    road.give_key(GOOD_ANTHROPIC)
    for model, provider in (("claude-haiku-5-5", "anthropic"), ("gpt-5.4-nano", "openai")):
        request = road.ended(road.ask(model=model))
        assert (request.state, request.provider, request.model) == ("completed", provider, model)
        assert request.credential == "byok"


def test_another_model_by_configuration_is_another_question(
    road: Road, services: Services, sandbox: SandboxServer, tmp_path: Path
) -> None:
    road.account()
    mail = MailInput(subject="Hello", text="Once and again")
    road.ended(road.ask(mail=mail, operation=Operation.REPLY))
    assert road.ended(road.ask(mail=mail, operation=Operation.REPLY)).answered_by == "reuse"
    road.stop_working()
    settings = make_settings(
        road.settings.state_dir,
        broker=services.broker,
        database=services.database,
        sandbox=sandbox,
        redis_url=services.redis,
    )
    changed = Road(settings, sandbox)
    changed.start()
    try:
        request = changed.ended(changed.ask(mail=mail, operation=Operation.REPLY))
        assert (request.answered_by, request.model) == ("model", "gpt-5.4-mini")
    finally:
        changed.stop()
