"""Every reason for which an event is refused, with the sentence that comes with it.

The sentences are where the refusals are raised; this is the list of them for people, and a test
compares the two. `{…}` stands for what differs.
"""

from dataclasses import dataclass
from enum import StrEnum


class Teller(StrEnum):
    """Who refuses."""

    PUBLISHER = "publisher"
    """Our Python publisher, before anything is sent; another publisher does what it likes."""
    READER = "both"
    """Our Python publisher for what it can see, and the workers for all that arrives."""
    WORKER = "worker"
    """The workers alone: the message is set aside, counted, and told as `event.rejected`."""
    INSIDE = "inside"
    """The workers, of a message of their own."""
    COMMAND = "command"
    """`byok failed retry`, of what was set aside."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One sentence of one reason."""

    reason: str
    by: Teller
    sentence: str


REFUSALS = (
    Refusal(
        "too_large",
        Teller.READER,
        "The event has {size} bytes and at most {limit} are accepted: send a shorter body, without "
        "attachments.",
    ),
    Refusal(
        "readable_key",
        Teller.READER,
        "The event holds something of a provider key's shape in the clear: seal it. If it was a "
        "real key it must be replaced at the provider, since it has been on the way readable.",
    ),
    Refusal("invalid_event", Teller.READER, "In {what}, {field}: {what is wrong with it}."),
    Refusal(
        "invalid_event",
        Teller.READER,
        "The event holds a number or a text that JSON cannot carry exactly.",
    ),
    Refusal(
        "invalid_event",
        Teller.WORKER,
        "The event cannot be read: see the event reference.",
    ),
    Refusal(
        "invalid_event",
        Teller.INSIDE,
        "A usage row has other fields than this version's ledger: upgrade the workers.",
    ),
    Refusal(
        "before_restore",
        Teller.WORKER,
        "The event is older than the database's restoration from a backup and may have been acted "
        "on before: publish what is true now as a new event.",
    ),
    Refusal("not_json", Teller.WORKER, "The message is not JSON: send a CloudEvent 1.0 in JSON."),
    Refusal("not_json", Teller.WORKER, "The message's argument is not an event in JSON."),
    Refusal(
        "not_cloudevent",
        Teller.WORKER,
        'The message is not a CloudEvent: `specversion` must be "1.0".',
    ),
    Refusal(
        "unknown_type",
        Teller.WORKER,
        "The event's `type` is not one that is read here: see the event reference.",
    ),
    Refusal(
        "unknown_version",
        Teller.WORKER,
        "This worker does not know version {number} of {type}; it reads {types}: upgrade the "
        "workers, or publish one of these.",
    ),
    Refusal("unsigned", Teller.WORKER, "The event has no `signature`: sign it, with Ed25519."),
    Refusal("unknown_source", Teller.WORKER, "The event's `source` is not one of BYOK_PUBLISHERS."),
    Refusal(
        "source_not_allowed",
        Teller.WORKER,
        "The event's `source` may not send events of this type.",
    ),
    Refusal(
        "bad_signature",
        Teller.WORKER,
        "The event's `signature` is not its source's: it was altered, or signed with another key, "
        "or over other bytes than RFC 8785 gives.",
    ),
    Refusal(
        "stale_signature",
        Teller.WORKER,
        "The event's `time` is too long ago or ahead of our clock: publish it anew, with the "
        "publisher's clock right.",
    ),
    Refusal("wrong_queue", Teller.WORKER, "{type} does not belong on the queue {queue}."),
    Refusal(
        "not_a_message",
        Teller.WORKER,
        "The message is not one that this system's actors take: publish events with the fields "
        "that the event reference names.",
    ),
    Refusal("not_a_message", Teller.INSIDE, "An inside message's arguments are ids."),
    Refusal(
        "not_a_message",
        Teller.COMMAND,
        "What was set aside is neither an event nor a message: drop it.",
    ),
    Refusal(
        "seal_malformed",
        Teller.WORKER,
        "The sealed value is not of the form v1.<key id>.<base64url>.",
    ),
    Refusal(
        "seal_unknown_key",
        Teller.WORKER,
        "The value is sealed for a sealing key that this worker does not hold: publish with the "
        "current public key, or give the worker the old one.",
    ),
    Refusal(
        "seal_broken",
        Teller.WORKER,
        "The sealed value does not open: it was altered or cut, or it was sealed for another "
        "account, provider, key or request.",
    ),
    Refusal(
        "invalid_input",
        Teller.WORKER,
        "The sealed input is not a mail: send the fields subject, from, to, cc, date, text, html "
        "and headers, as the event reference has them.",
    ),
    Refusal(
        "invalid_input",
        Teller.WORKER,
        "The sealed input is not a thread: send own_address and messages, each with the fields "
        "from, to, cc, date and text, as the event reference has them.",
    ),
    Refusal(
        "id_conflict",
        Teller.WORKER,
        "The request id {request_id} was used before with other content: give each request an id "
        "of its own.",
    ),
    Refusal(
        "key_id_taken",
        Teller.WORKER,
        "The key id belongs to another account or provider: give every key an id of its own.",
    ),
    Refusal(
        "unknown_account",
        Teller.WORKER,
        "The account {account} did not become known within {seconds} s: publish its "
        "account.updated, then retry this event.",
    ),
    Refusal(
        "vault_unreadable",
        Teller.WORKER,
        "What is stored for the account does not open ({kind}): restore its row in data_keys or "
        "give the worker its master key, then retry the message.",
    ),
    Refusal(
        "internal_error",
        Teller.WORKER,
        "An unexpected {kind} at {place}: see the log of the worker, mend it, and retry the "
        "message.",
    ),
    Refusal("not_incoming", Teller.PUBLISHER, "{type} is not an event that workers read."),
    Refusal(
        "queue_full",
        Teller.PUBLISHER,
        "The queue {queue} holds {depth} messages, and from {limit} on nothing is added: publish "
        "again later.",
    ),
    Refusal(
        "no_answers",
        Teller.PUBLISHER,
        'wait="claimed" needs the `redis_url` where the workers answer.',
    ),
)
"""All of them, in the order in which a publisher meets them."""
