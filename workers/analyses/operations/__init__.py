"""The operations by name. A new one is a new module here, and its name in `_MODULES`."""

from collections.abc import Mapping
from types import MappingProxyType

from events.analyses import Operation
from workers.analyses.operations import classify, reply, summarize, thread_state
from workers.analyses.operations.port import (
    AnalysisOperation,
    AnswerOffVocabulary,
    Result,
    Signals,
)

__all__ = [
    "OPERATIONS",
    "AnalysisOperation",
    "AnswerOffVocabulary",
    "Result",
    "Signals",
    "operation_of",
]

_MODULES: tuple[AnalysisOperation, ...] = (classify, summarize, reply, thread_state)

OPERATIONS: Mapping[Operation, AnalysisOperation] = MappingProxyType(
    {module.name: module for module in _MODULES}
)


def operation_of(name: Operation) -> AnalysisOperation:
    """Return the operation of that name: every one that an event may name is here."""
    return OPERATIONS[name]
