"""The words in which an account's mail is described: built-ins, edited ones, and its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from events.accounts import CategoryOverride, CustomCategory
from workers.analyses.characters import one_line
from workers.analyses.operations.fence import escaped_json
from workers.analyses.operations.port import COLD_EMAIL

Kind = Literal["category", "urgency", "sentiment"]

BUILT_IN: Mapping[Kind, Mapping[str, str]] = {
    "category": {
        "urgent": "needs attention today: an outage, a deadline, a security alert",
        "important": "weighs much for the recipient though it may wait: contracts, health, family",
        "personal": "from a person the recipient knows, about private matters",
        "work": "about the recipient's job, projects, colleagues or customers",
        "financial": "invoices, statements, taxes, payments due, banking",
        "newsletter": "an issue of something subscribed to, to be read: articles, digests, lists",
        "promotional": "advertising of a business the recipient may know: sales, offers, coupons",
        "spam": "unwanted bulk mail, fraud, phishing",
        "social": "social networks, communities, mailing-list discussions, invitations by people",
        "notification": "an automatic message that something happened in a service",
        "transactional": "follows from the recipient's own act: receipts, bookings, codes, parcels",
        "system": "from mail or computer systems: bounces, reports, logs, monitoring",
        "other": "nothing of the above fits",
    },
    "urgency": {
        "high": "something is lost if it is not seen today",
        "medium": "should be seen within days",
        "low": "may wait or never be read",
    },
    "sentiment": {
        "positive": "friendly, thankful, glad",
        "neutral": "factual, or mixed",
        "negative": "angry, sad, complaining, threatening",
    },
}
"""The model's own choices. `cold_email` is not among them."""

LAST_RESORT: Mapping[Kind, str] = {
    "category": "other",
    "urgency": "medium",
    "sentiment": "neutral",
}
"""What remains where nothing else holds. It can be edited, and disabling it has no effect."""

OWN_CHARACTERS = 24_000
"""Of an account's own categories in a prompt, by priority; what is beyond is not offered."""

EDITED_CHARACTERS = 12_000
"""Of what an account added to the built-ins, in their order; of those beyond, the description."""

_LISTED = 15
"""Keywords, sender patterns and examples of one category that are shown, each kind."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What may be answered, of each kind: built-in keys with what they mean, and own ones.

    `own` is ordered by priority, the higher first. `edited` are the built-ins' overrides. Hashable,
    so that what is built from it is built once.
    """

    category: tuple[tuple[str, str], ...]
    urgency: tuple[tuple[str, str], ...]
    sentiment: tuple[tuple[str, str], ...]
    own: tuple[CustomCategory, ...]
    edited: tuple[CategoryOverride, ...]
    cold_email: bool

    def built_in(self, kind: Kind) -> tuple[tuple[str, str], ...]:
        """The enabled built-ins of a kind: key and meaning."""
        return {"category": self.category, "urgency": self.urgency, "sentiment": self.sentiment}[
            kind
        ]

    def built_in_keys(self, kind: Kind) -> tuple[str, ...]:
        """The keys of the enabled built-ins of a kind."""
        return tuple(key for key, _ in self.built_in(kind))

    def own_of(self, kind: Kind) -> Mapping[str, CustomCategory]:
        """The account's own of a kind by key, by priority."""
        return {own.key: own for own in self.own if own.type == kind}

    def standing(self, kind: Kind, key: str) -> tuple[int, int]:
        """The priority of a key, and the confidence in per cent from which on it counts.

        A built-in that the account did not edit has neither.
        """
        known: tuple[CustomCategory | CategoryOverride, ...] = (*self.own, *self.edited)
        for one in known:
            if (one.type, one.key) == (kind, key):
                return one.priority or 0, one.confidence_threshold or 0
        return 0, 0


def vocabulary_of(
    categories: Sequence[CustomCategory] = (), overrides: Sequence[CategoryOverride] = ()
) -> Vocabulary:
    """Build the vocabulary of an account.

    A key of the account's own that is a built-in's is left out: a built-in is changed by an
    override. Of two with the same key the first by priority counts.
    """
    edits = {(edit.type, edit.key): edit for edit in overrides}
    room = EDITED_CHARACTERS

    def built_in(kind: Kind) -> tuple[tuple[str, str], ...]:
        nonlocal room
        terms: list[tuple[str, str]] = []
        for key, meaning in BUILT_IN[kind].items():
            edit = edits.get((kind, key))
            if edit is None or edit.enabled or key == LAST_RESORT[kind]:
                told = one_line((edit and edit.description) or meaning)
                more = _more(edit)
                room -= len(more)
                terms.append((key, f"{told} {more}" if more and room >= 0 else told))
        return tuple(terms)

    cold = edits.get(("category", COLD_EMAIL))
    return Vocabulary(
        category=built_in("category"),
        urgency=built_in("urgency"),
        sentiment=built_in("sentiment"),
        own=_own(categories),
        edited=tuple(
            edit
            for edit in edits.values()
            if edit.key in BUILT_IN[edit.type] and (edit.priority or edit.confidence_threshold)
        ),
        cold_email=cold is None or cold.enabled,
    )


def _own(categories: Sequence[CustomCategory]) -> tuple[CustomCategory, ...]:
    chosen: dict[tuple[str, str], CustomCategory] = {}
    room = OWN_CHARACTERS
    for own in sorted(categories, key=lambda own: (-own.priority, own.type, own.key)):
        taken = own.key in BUILT_IN[own.type] or own.key == COLD_EMAIL
        if not own.enabled or taken or (own.type, own.key) in chosen:
            continue
        room -= len(described(own))
        if room < 0:
            break
        chosen[own.type, own.key] = own
    return tuple(chosen.values())


def described(own: CustomCategory) -> str:
    """Return one line of JSON that tells a model of `own`. Data only: nothing is evaluated."""
    named = {"key": own.key, "name": own.display_name, "description": own.description}
    return _as_data(named | _details(own))


def _more(edit: CategoryOverride | None) -> str:
    """What an account added to a built-in beside its description, as `described` tells it."""
    added = {"name": edit.display_name, **_details(edit)} if edit else {}
    return _as_data(added) if any(added.values()) else ""


def _details(one: CustomCategory | CategoryOverride) -> dict[str, str | Sequence[str] | None]:
    return {
        "definition": one.definition_prompt,
        "keywords": one.keywords,
        "senders": one.sender_patterns,
        "subjects_that_fit": one.positive_examples,
        "subjects_that_do_not": one.negative_examples,
    }


def _as_data(fields: Mapping[str, str | Sequence[str] | None]) -> str:
    shown = {
        name: one_line(value) if isinstance(value, str) else [one_line(v) for v in value[:_LISTED]]
        for name, value in fields.items()
        if value
    }
    return escaped_json({name: value for name, value in shown.items() if value})
