"""The AI providers behind one port. The official SDKs are imported here and nowhere else.

The clients load only when they are asked for: importing both SDKs takes more than a second of
CPU, which commands that call no provider need not spend.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from workers.providers.codes import Code, Reason
from workers.providers.port import (
    Answer,
    Failure,
    Limits,
    OutcomeClass,
    Proof,
    ProviderClient,
    Question,
    Tokens,
    Undecided,
)
from workers.providers.shape import ShapeProblem, check_shape
from workers.providers.verdict import Verdict, judge, judge_outcome

if TYPE_CHECKING:
    from workers.providers.anthropic import ANTHROPIC_URL, AnthropicClient
    from workers.providers.openai import OPENAI_URL, OpenAIClient
    from workers.providers.transport import quiet_sdk_logging

__all__ = [
    "ANTHROPIC_URL",
    "OPENAI_URL",
    "Answer",
    "AnthropicClient",
    "Code",
    "Failure",
    "Limits",
    "OpenAIClient",
    "OutcomeClass",
    "Proof",
    "ProviderClient",
    "Question",
    "Reason",
    "ShapeProblem",
    "Tokens",
    "Undecided",
    "Verdict",
    "check_shape",
    "judge",
    "judge_outcome",
    "quiet_sdk_logging",
]

_LOADED_WHEN_ASKED_FOR = {
    "ANTHROPIC_URL": "anthropic",
    "AnthropicClient": "anthropic",
    "OPENAI_URL": "openai",
    "OpenAIClient": "openai",
    "quiet_sdk_logging": "transport",
}


def __getattr__(name: str) -> Any:
    if name not in _LOADED_WHEN_ASKED_FOR:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LOADED_WHEN_ASKED_FOR[name]}"), name)
