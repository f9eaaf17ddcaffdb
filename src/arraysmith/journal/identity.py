"""What is explored: the first line of a journal, and how two of them differ."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from numpy.lib.format import dtype_to_descr

from arraysmith.errors import InputFileError, OutputError
from arraysmith.files import sha256
from arraysmith.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

FORMAT = "arraysmith-journal-1"
_WAY_OUT = "choose another folder with -o, or start anew with --restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What is explored; answers may be reused only under an equal key."""

    key: str
    """SHA-256 of all that determines the answers."""
    facts: Mapping[str, str]
    """The same for people: a refusal names those that differ."""

    @classmethod
    def of(cls, facts: Mapping[str, str], determines: object) -> Identity:
        """An identity from facts and all that determines the answers.

        Args:
            facts: names and values for people, such as `{"workload": "resnet50"}`.
            determines: records, sequences and numbers that JSON can hold. The facts and the
                version of Arraysmith are added.
        """
        everything = [__version__, dict(facts), determines]
        return cls(key=sha256(msgspec.json.encode(everything, order="deterministic")), facts=facts)


class FirstLine(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the first line."""

    format: str
    arraysmith: str
    key: str
    facts: dict[str, str]
    results: str
    crc32: int = 0

    @classmethod
    def of(cls, identity: Identity, dtype: np.dtype[Any]) -> FirstLine:
        """The line of a journal that is begun now."""
        line = cls(
            format=FORMAT,
            arraysmith=__version__,
            key=identity.key,
            facts=dict(identity.facts),
            results=str(dtype_to_descr(dtype)),
        )
        return msgspec.structs.replace(line, crc32=zlib.crc32(line.encoded()))

    def encoded(self) -> bytes:
        """The line without its end."""
        return msgspec.json.encode(self)

    def is_whole(self, line: bytes) -> bool:
        """Whether a line that was read as this one is it to the byte."""
        bare = msgspec.structs.replace(self, crc32=0)
        return self.encoded() == line and self.crc32 == zlib.crc32(bare.encoded())

    @property
    def described(self) -> dict[str, str]:
        """Everything that a refusal may name."""
        return {**self.facts, "version": self.arraysmith, "results": self.results}

    def is_of_same(self, other: FirstLine) -> bool:
        """Whether answers can be reused; facts are only how people call it."""
        mine, others = (self.key, self.arraysmith), (other.key, other.arraysmith)
        return mine == others and self.results == other.results


def first_line(path: Path, content: bytes) -> FirstLine:
    """What a journal says of itself.

    Raises:
        InputFileError: it is no journal, of another format, or its first line is damaged.
    """
    line, end, _ = content.partition(b"\n")
    try:
        found = msgspec.json.decode(line, type=dict[str, Any]).get("format")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Text of another kind and a first line of ours with a flipped bit look alike here.
        found = None
    if not end or not isinstance(found, str) or not found.startswith("arraysmith-journal-"):
        raise InputFileError(f"{path}: not the journal of an exploration, or damaged; {_WAY_OUT}")
    if found != FORMAT:
        raise InputFileError(f"{path}: format {found!r}, expected {FORMAT!r}; {_WAY_OUT}")
    try:
        first = msgspec.json.decode(line, type=FirstLine)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        first = None
    if first is None or not first.is_whole(line):
        raise InputFileError(f"{path}: not the journal of an exploration, or damaged; {_WAY_OUT}")
    return first


def check_same(path: Path, found: FirstLine, expected: FirstLine) -> None:
    """Make sure that a journal's answers can be reused.

    Raises:
        OutputError: it is of another exploration; the message says what differs.
    """
    if found.is_of_same(expected):
        return
    was, now = found.described, expected.described
    differences = [
        f"{name} was {_shown(was, name)}, is {_shown(now, name)}"
        for name in dict.fromkeys([*now, *was])
        if was.get(name) != now.get(name)
    ]
    what = " and ".join(differences) or f"key was {found.key[:12]}, is {expected.key[:12]}"
    raise OutputError(f"{path}: is of another exploration: {what}; {_WAY_OUT}")


def _shown(facts: Mapping[str, str], name: str) -> str:
    return repr(facts[name]) if name in facts else "not given"
