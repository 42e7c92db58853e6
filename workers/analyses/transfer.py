"""Transfer encodings of a part, and files that stand encoded within a plain text."""

import binascii
import re

from workers.analyses.characters import CUT

_BASE64_LINE = re.compile(rb"[A-Za-z0-9+/=]*")
_UUENCODED = re.compile(
    r"(?m)^begin(?:-base64)? [0-7]{3,4} [^\n]{1,255}\n(?:[ -`]{1,100}+\n)++(?:end\b[^\n]*)?"
)
_ENCODED_LINES = re.compile(r"(?m)(?:^[A-Za-z0-9+/=]{60,}+(?:\n|\Z))++")
_PROSE_LINES = 4
"""Up to this many long lines without a space are left: links, digests, signatures of keys."""


def transfer_decoded(raw: bytes, encoding: str) -> bytes:
    """Return `raw` decoded by its `Content-Transfer-Encoding`. Never raises.

    An unknown encoding, and base64 that is none, leave the bytes as they are.
    """
    match encoding.strip().lower():
        case "quoted-printable":
            return binascii.a2b_qp(raw)
        case "base64":
            return _base64(raw)
        case _:
            return raw


def _base64(raw: bytes) -> bytes:
    """Decode the lines that are base64 and keep what follows: list servers append plain footers."""
    encoded: list[bytes] = []
    lines = raw.lstrip().splitlines(keepends=True)
    for line in lines:
        stripped = line.strip()
        if not _BASE64_LINE.fullmatch(stripped):
            break
        encoded.append(stripped.replace(b"=", b""))
    data = b"".join(encoded)
    if len(data) % 4 == 1:
        data = data[:-1]
    return binascii.a2b_base64(data + b"=" * (-len(data) % 4)) + b"".join(lines[len(encoded) :])


def without_encoded_files(text: str) -> str:
    """Return `text` without uuencoded files and runs of base64: attachments by another road."""
    return _ENCODED_LINES.sub(_long_run, _UUENCODED.sub(CUT + "\n", text))


def _long_run(run: re.Match[str]) -> str:
    return CUT + "\n" if run[0].count("\n") > _PROSE_LINES else run[0]
