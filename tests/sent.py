"""What a provider may receive of us: held against what the sandboxes of the tests received.

Each sandbox adds what it receives to a file. After each test all of them are searched from where
the last search ended, whoever started the sandbox and however it has ended since.
"""

import email
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from functools import cache
from pathlib import Path
from typing import Any

from deploy.local.sandbox import SandboxServer
from events import MailInput
from workers.analyses.mail import read_eml

OF_A_MAIL = {"subject", "from", "to", "cc", "text"}
OF_A_THREAD = {"own_address", "messages"}
OF_A_MESSAGE = {"from", "to", "cc", "date", "text"}

MAILS = sorted((Path(__file__).parent / "data" / "mail").glob("*.eml"))
PIECE = 13
"""So many characters of an attachment or a header tell it from all else."""

_BODY = {
    "openai": {
        *("model", "messages", "response_format", "max_completion_tokens", "store"),
        "prompt_cache_key",
    },
    "anthropic": {"model", "messages", "system", "output_config", "max_tokens"},
}
_HEADERS = {
    *("accept", "accept-encoding", "authorization", "connection", "content-length"),
    *("content-type", "host", "user-agent", "x-api-key", "anthropic-version"),
    "idempotency-key",
}


@dataclass
class Searched:
    """How much was searched: records that had received something, and the calls in them."""

    records: int = 0
    calls: int = 0
    with_mail: int = 0
    withheld: int = 0

    def __add__(self, other: "Searched") -> "Searched":
        return Searched(
            self.records + other.records,
            self.calls + other.calls,
            self.with_mail + other.with_mail,
            self.withheld + other.withheld,
        )

    def __str__(self) -> str:
        return (
            f"{self.records} records of sandboxes searched, {self.calls} calls, {self.with_mail} "
            f"of them with a mail or a thread; {self.withheld} mails of accounts without consent "
            "looked for"
        )


@dataclass
class Records:
    """The files of all sandboxes that a process of the tests has started, and what may be in none
    of them.
    """

    searched: Searched = field(default_factory=Searched)
    _ends: dict[Path, int] = field(default_factory=dict)
    _own: set[Path] = field(default_factory=set)
    _withheld: dict[tuple[str, str], str] = field(default_factory=dict)

    def watch(self, file: Path, *, own_questions: bool = False) -> Path:
        """Have a file searched that a sandbox adds to, or will.

        With `own_questions` the tests ask the adapters by themselves, of no mail.
        """
        self._ends.setdefault(file, 0)
        if own_questions:
            self._own.add(file)
        return file

    def withhold(self, account: str, request_id: str, words: str) -> None:
        """Nothing may be sent of this request, whose mail alone has these words in it."""
        self._withheld[account, request_id] = words

    def give(self, account: str, request_id: str) -> None:
        """A request may be sent from now on."""
        self._withheld.pop((account, request_id), None)

    def withheld_of(self, account: str) -> list[str]:
        """The account's requests of which nothing may be sent."""
        return [request_id for of, request_id in self._withheld if of == account]

    def search(self) -> None:
        """Look at all that was received since the last search."""
        withheld = list(self._withheld.values())
        self.searched.withheld += len(withheld)
        self._withheld.clear()
        for file in list(self._ends):
            # Whatever is wrong with one call, the next search begins after it.
            entries = list(self._received(file))
            self.searched.records += bool(entries)
            self.searched.calls += len(entries)
            assert_no_more_than_the_api_asks_for(entries)
            assert_nothing_of(entries, withheld)
            if file not in self._own:
                self.searched.with_mail += sum(map(_brings_mail, entries))
                assert_only_what_is_named(entries)

    def _received(self, file: Path) -> Iterator[dict[str, Any]]:
        if not file.exists():
            return
        with file.open("rb") as lines:
            lines.seek(self._ends[file])
            for line in lines:
                self._ends[file] += len(line)
                yield json.loads(line)


RECORDS = Records()
"""Those of this process."""


@contextmanager
def searched_sandbox(*, own_questions: bool = False) -> Iterator[SandboxServer]:
    """A sandbox in this process whose record is searched (`Records.watch`)."""
    with tempfile.TemporaryDirectory(prefix="byok-sandbox-") as directory:
        file = RECORDS.watch(Path(directory) / "record", own_questions=own_questions)
        with SandboxServer(record=file) as server:
            yield server
        RECORDS.search()


def assert_only_what_is_named(record: Iterable[Mapping[str, Any]]) -> None:
    """Every completion holds one fenced mail or thread with the fields that the product names.

    Beside it are the instructions, which hold nothing of a mail. Of a shipped mail there is no
    attachment and no header that is not named.
    """
    for entry in record:
        if _brings_mail(entry):
            _assert_fenced(entry["user"])
            assert "<mail>\n" not in entry["system"]


def assert_no_more_than_the_api_asks_for(record: Iterable[Mapping[str, Any]]) -> None:
    """No field of a body and no header but the known ones, and the key in its header alone."""
    for entry in record:
        named = {name for name in entry["header_names"] if not name.startswith("x-stainless-")}
        assert named <= _HEADERS, named - _HEADERS
        assert not entry["key_in_body"]
        if entry["endpoint"] == "completion":
            assert set(entry["body"]) <= _BODY[entry["provider"]]


def assert_nothing_of(record: Iterable[Mapping[str, Any]], withheld: Iterable[str]) -> None:
    """No call holds the words of a mail that may not be sent."""
    wanted = list(withheld)
    for entry in record:
        for words in wanted:
            assert words not in entry["user"] + entry["system"], words


def _brings_mail(entry: Mapping[str, Any]) -> bool:
    # The smallest call, by which a key is proved, asks about the figure 1.
    return entry["endpoint"] == "completion" and entry["user"] != "1"


def _assert_fenced(user: str) -> None:
    lines = user.split("\n")
    assert len(lines) == 4, "there is something beside the fence"
    lead_in, opening, fenced, closing = lines
    assert lead_in.endswith(":")
    told = json.loads(fenced)
    if opening == "<thread>":
        assert closing == "</thread>"
        assert set(told) == OF_A_THREAD
        for message in told["messages"]:
            assert isinstance(message, str) or set(message) == OF_A_MESSAGE
    else:
        assert (opening, closing) == ("<mail>", "</mail>")
        assert set(told) == OF_A_MAIL
        if told["subject"] in _subjects():
            sent = squeezed(" ".join(told.values()))
            assert not [piece for piece in kept_back() if piece in sent]


@cache
def _shipped() -> list[MailInput]:
    return [read_eml(file.read_bytes()) for file in MAILS]


@cache
def _subjects() -> frozenset[str]:
    return frozenset(mail.subject for mail in _shipped())


@cache
def kept_back() -> frozenset[str]:
    """Pieces of the shipped mails' attachments and of their other headers.

    What stands in a field of one of them that may be sent is not among them.
    """
    named = squeezed(
        " ".join(
            text
            for mail in _shipped()
            for text in (mail.subject, mail.sender, mail.to, mail.cc, mail.text, mail.html)
        )
    )
    found = set[str]()
    for file in MAILS:
        raw = email.message_from_bytes(file.read_bytes())
        pieces = (squeezed(piece) for piece in (*_other_headers(raw), *_attached(raw)))
        found.update(piece for piece in pieces if len(piece) >= PIECE and piece not in named)
    return frozenset(found)


def _other_headers(mail: Message) -> Iterator[str]:
    for name, value in mail.raw_items():
        if name.lower() not in OF_A_MAIL:
            yield str(value)


def _attached(mail: Message) -> Iterator[str]:
    """Lines of what is attached, as they are and encoded."""
    for part in mail.walk():
        if part.get_filename() is None and part.get_content_disposition() != "attachment":
            continue
        payload = part.get_payload(decode=True)
        if isinstance(payload, bytes):
            yield from payload.decode("latin-1").splitlines()
        yield from str(part.get_payload()).splitlines()


def squeezed(text: str) -> str:
    """A text with one space wherever there is space."""
    return " ".join(text.split())
