"""What a request carries sealed: a mail or a thread, by its operation."""

from pydantic import ValidationError

from events import EventRefused, MailInput, Operation, ThreadInput
from events.analyses import AnalysisInput
from workers.analyses.operations import operation_of

_SENTENCES: dict[type[MailInput] | type[ThreadInput], str] = {
    MailInput: "The sealed input is not a mail: send the fields subject, from, to, cc, date, text, "
    "html and headers, as the event reference has them.",
    ThreadInput: "The sealed input is not a thread: send own_address and messages, each with the "
    "fields from, to, cc, date and text, as the event reference has them.",
}


def read_input(operation: Operation, payload: bytes) -> AnalysisInput:
    """Read what was sealed. Raises `EventRefused` (`invalid_input`) where the operation reads
    something else.
    """
    model = operation_of(operation).reads
    try:
        return model.model_validate_json(payload)
    except ValidationError:
        raise EventRefused("invalid_input", _SENTENCES[model]) from None
