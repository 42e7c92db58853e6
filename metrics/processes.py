"""The files that processes count in, and what becomes of those of processes that have ended.

Each process counts in files of its own, under an identity that it holds a lock on: process ids come
again, and those of containers are all alike. The files of an ended process are added to one
merged file, so that a year of restarts costs a scrape nothing and no counter falls.
"""

import fcntl
import json
import os
import struct
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

_GUARD = "guard.lock"
_JOURNAL = "merge.journal"
_ADDED_UP = ("counter", "histogram")
_MERGED = "merged"
_TORN = (ValueError, struct.error, RuntimeError, UnicodeDecodeError, KeyError, TypeError)
"""What reading a file raises that a crash of the machine has torn."""

_held: dict[str, int] = {}


def claim_identity(directory: Path) -> Callable[[], str]:
    """A function that gives this process's identity, a new one after a fork."""
    claimed: dict[int, str] = {}

    def identity() -> str:
        pid = os.getpid()
        known = claimed.get(pid)
        if known is None:
            known = claimed[pid] = _claim(directory, pid)
        return known

    return identity


def _claim(directory: Path, pid: int) -> str:
    identity = f"{pid}-{uuid.uuid4().hex[:12]}"
    # Under the guard: nobody takes a lock that is just being made for that of a dead process.
    with _guarded(directory, fcntl.LOCK_EX):
        handle = os.open(directory / f"{identity}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
    # Held until the process ends, however it does.
    _held[identity] = handle
    return identity


def release(identity: str) -> None:
    """Give an identity up before the process ends; its files count as those of an ended one."""
    handle = _held.pop(identity, None)
    if handle is not None:
        os.close(handle)


@contextmanager
def reading(directory: Path) -> Iterator[None]:
    """Keep files from being merged while they are read."""
    with _guarded(directory, fcntl.LOCK_SH):
        yield


def merge_ended(directory: Path) -> int:
    """Add the files of ended processes to the merged ones; how many processes these were.

    Whatever a crash interrupts is finished the next time, and nothing is counted twice: the new
    files take their place only after a journal says which old ones they stand for.
    """
    with _guarded(directory, fcntl.LOCK_EX):
        _finish(directory)
        ended = _ended(directory)
        if ended:
            _write_journal(directory, ended)
            _finish(directory)
    return len(ended)


@contextmanager
def _guarded(directory: Path, how: int) -> Iterator[None]:
    handle = os.open(directory / _GUARD, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, how)
        yield
    finally:
        os.close(handle)


def _ended(directory: Path) -> list[str]:
    """The identities that nobody holds."""
    named = {path.stem for path in directory.glob("*.lock") if path.name != _GUARD}
    # Files without a lock are of a version that had none.
    named |= {path.stem.rpartition("_")[2] for path in directory.glob("*_*.db")} - {_MERGED}
    return sorted(identity for identity in named if not _is_held(directory, identity))


def _is_held(directory: Path, identity: str) -> bool:
    try:
        handle = os.open(directory / f"{identity}.lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _write_journal(directory: Path, ended: list[str]) -> None:
    renames: dict[str, str] = {}
    for kind in _ADDED_UP:
        olds = [directory / f"{kind}_{identity}.db" for identity in (*ended, _MERGED)]
        sums: dict[str, float] = {}
        for old in olds:
            _add(sums, old)
        new = directory / f"{kind}.new"
        new.unlink(missing_ok=True)
        made = MmapedDict(str(new))
        for key, value in sums.items():
            made.write_value(key, value, 0.0)
        made.close()
        renames[new.name] = f"{kind}_{_MERGED}.db"
    # What an ended process said last of a gauge is not true any more.
    gone = [path.name for identity in ended for path in directory.glob(f"*_{identity}.db")]
    gone += [f"{identity}.lock" for identity in ended]
    draft = directory / f"{_JOURNAL}.new"
    draft.write_text(json.dumps({"renames": renames, "gone": gone}))
    draft.replace(directory / _JOURNAL)


def _add(sums: dict[str, float], path: Path) -> None:
    read: dict[str, float] = {}
    try:
        for key, value, *_ in MmapedDict.read_all_values_from_file(str(path)):
            json.loads(key)
            read[key] = value
    except FileNotFoundError:
        return
    except _TORN:
        # Set aside, so that one torn file does not keep all others from being seen.
        path.rename(path.with_suffix(".torn"))
        return
    for key, value in read.items():
        sums[key] = sums.get(key, 0.0) + value


def _finish(directory: Path) -> None:
    """Do what the journal says, where there is one."""
    journal = directory / _JOURNAL
    try:
        said = json.loads(journal.read_text())
    except FileNotFoundError:
        return
    for new, final in said["renames"].items():
        with suppress(FileNotFoundError):
            (directory / new).replace(directory / final)
    for name in said["gone"]:
        (directory / name).unlink(missing_ok=True)
    journal.unlink()
