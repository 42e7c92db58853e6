"""What the sandbox makes of a mail: scores by words and phrases, and the signals they give."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.local.sandbox.lexicon import MACHINE_SENDERS, PHRASES, WORDS

HEAD_CHARACTERS = 3000
"""Only this much of the text is read, so that the cost of an answer does not grow with the mail."""

SPAM_FROM = 4.0
"""The score from which a mail is spam. On 261 mails of the SpamAssassin corpus it finds 78 of 111
spam mails and takes 6 of 150 others for spam."""

CATEGORIES = (
    *("urgent", "important", "personal", "work", "financial", "newsletter", "promotional"),
    *("spam", "social", "notification", "transactional", "system", "other"),
)

_MAIL = re.compile(r"^<mail>\r?\n(.*)\r?\n</mail>\s*$", re.MULTILINE | re.DOTALL)
_WORD = re.compile(r"[a-z0-9'$%:-]+")
_QUOTED = re.compile(r"^(?:>|\w[^\n]{0,80} (?:wrote|writes|said):).*$", re.MULTILINE)
_MONEY = re.compile(r"\$\s?\d|\d ?%")
_LINK = re.compile(r"https?://\S+")
_TAGGED = re.compile(r"^\W*adv\b|\s{4,}\S+$|\d{4,}\W*$|^\W*\$", re.IGNORECASE)
_MADE_UP = re.compile(r"<?\w*\d{3,}\w*@|\d[a-z]+\d\w*@", re.IGNORECASE)

_BY_WORD: dict[str, list[str]] = {}
for _kind, _words in WORDS.items():
    for _word in _words.split():
        _BY_WORD.setdefault(_word, []).append(_kind)
_BY_PHRASE = [
    (phrase.strip(), kind) for kind, phrases in PHRASES.items() for phrase in phrases.split("|")
]


@dataclass(slots=True, frozen=True)
class Reading:
    """The signals of one mail. `ranked` holds the categories, the likeliest first."""

    subject: str
    sender: str
    first_line: str
    words: frozenset[str]
    ranked: tuple[str, ...]
    close: bool
    confidence: float
    urgency: str
    sentiment: str
    is_spam: bool
    is_automated: bool
    is_cold: bool
    needs_response: bool
    requires_action: bool


def find_mail(user_text: str) -> Mapping[str, Any]:
    """The mail between the lines `<mail>` and `</mail>`, or the whole text as its body."""
    found = _MAIL.search(user_text)
    if found is not None:
        try:
            mail = json.loads(found[1])
        except ValueError:
            mail = None
        if isinstance(mail, dict):
            return mail
    return {"text": user_text}


def read_mail(mail: Mapping[str, Any]) -> Reading:
    """Read `mail`, whose fields are `subject, from, to, cc, date, text`, all optional."""
    subject, sender, text = (str(mail.get(name) or "") for name in ("subject", "from", "text"))
    head = text[:HEAD_CHARACTERS]
    reply = subject.lower().startswith(("re:", "re[", "fwd:", "aw:"))
    own = _QUOTED.sub("", head)
    title = set(_WORD.findall(subject.lower()))
    body = _WORD.findall(_LINK.sub(" ", own).lower())
    words = frozenset(title.union(body))
    scores = _scores(words, title, " ".join((*_WORD.findall(subject.lower()), *body)))

    machine = any(part in sender.lower() for part in MACHINE_SENDERS)
    talk = 4.0 * reply + 2.0 * (own != head) + 2.0 * subject.startswith("[")
    loud = min(head.count("!"), 6) * 0.4 + (len(subject) > 8 and subject.isupper()) * 2.0
    money = min(len(_MONEY.findall(head)), 4) * 0.6
    odd = 2.0 * bool(_TAGGED.search(subject)) + 1.5 * bool(_MADE_UP.search(sender))
    fair = talk + 0.7 * scores["newsletter"] + 1.5 * machine
    spam = scores["spam"] + loud + money + odd - fair
    is_spam = spam >= SPAM_FROM

    is_cold = not reply and scores["cold"] >= (1.0 if is_spam else 2.0)
    mass = max(scores["newsletter"], scores["promotional"], scores["system"])
    is_automated = not reply and (machine or scores["notification"] >= 4 or mass >= 5)
    asks = scores["asks"] > 0 or "?" in _LINK.sub("", own)
    quiet = is_spam or is_automated or is_cold
    needs_response = asks and not quiet
    requires_action = not is_spam and not is_cold and scores["acts"] > 0

    kinds = {kind: scores[kind] for kind in CATEGORIES if kind not in ("spam", "other")}
    kinds["personal"] += (not machine) * (1.0 + reply)
    kinds["work"] += 1.5 * (own != head)
    kinds["notification"] += 1.5 * machine
    kinds["urgent"] *= 0 if is_automated else 2.0
    kinds["newsletter"] *= 0.3 if reply else 1.3
    kinds["other"] = 1.2
    ranked = sorted(kinds, key=lambda kind: -kinds[kind])
    best, second = (kinds[kind] for kind in ranked[:2])
    ranked = ["spam", *ranked] if is_spam else [*ranked, "spam"]
    margin = spam - SPAM_FROM if is_spam else best - second
    confidence = round(min(0.97, 0.55 + 0.06 * margin + 0.02 * max(best, spam)), 2)

    urgent = scores["urgent"] >= 2 and not is_spam
    middling = needs_response or requires_action or ranked[0] in ("important", "financial", "work")
    tone = scores["positive"] - scores["negative"]
    return Reading(
        subject=subject.strip(),
        sender=sender.strip(),
        first_line=next((line.strip() for line in own.splitlines() if line.strip()), ""),
        words=words,
        ranked=tuple(ranked),
        close=margin < 2,
        confidence=max(0.5, confidence),
        urgency="high" if urgent else "medium" if middling and not quiet else "low",
        sentiment="positive" if tone >= 1.5 else "negative" if tone <= -1.5 else "neutral",
        is_spam=is_spam,
        is_automated=is_automated,
        is_cold=is_cold,
        needs_response=needs_response,
        requires_action=requires_action,
    )


def _scores(words: frozenset[str], title: set[str], joined: str) -> dict[str, float]:
    scores = dict.fromkeys((*CATEGORIES, *WORDS, *PHRASES), 0.0)
    for word in words & _BY_WORD.keys():
        for kind in _BY_WORD[word]:
            scores[kind] += 2.0 if word in title else 1.0
    for phrase, kind in _BY_PHRASE:
        if phrase in joined:
            scores[kind] += 1.5
    return scores
