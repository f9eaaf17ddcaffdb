"""What moves to and from the DRAM: words in order, and the bursts of cycles that carry them.

Often a word is known long before its cycle, and the width of a trace only at its end. So words wait
on disk, in a `Spool`, and come back as blocks of rows of bounded size.
"""

from __future__ import annotations

from array import array
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

CELLS = 1 << 16
"""Addresses in a block of lines."""
NOTHING = -1
"""In the place of an address: this lane asks for nothing."""
FILLER = 1
"""In the place of an address: a burst narrower than the widest; SCALE-Sim pads with ones."""


class Burst(NamedTuple):
    """Consecutive cycles at the DRAM, row by row; places without a word are empty."""

    first_cycle: int
    cycles: int
    words_per_cycle: int
    words: int


class Spool:
    """Words in the order of their transfer, on disk, and the bursts that carry them."""

    def __init__(self, file: IO[bytes]) -> None:
        """Start with an empty temporary file."""
        self._file = file
        self.written, self.width = 0, 0
        self._bursts = array("q")

    def keep(self, words: NDArray[np.int64]) -> None:
        """Append words."""
        self._file.write(words.data)
        self.written += len(words)

    def pad(self, row_words: int) -> None:
        """Fill the last row up."""
        self.keep(np.full(-self.written % row_words, NOTHING, np.int64))

    def send(self, burst: Burst) -> None:
        """The next words go with this burst."""
        self._bursts.extend(burst)
        self.width = max(self.width, burst.words_per_cycle)

    def bursts(self, set_words: int | None = None) -> Iterator[tuple[Burst, NDArray[np.int64]]]:
        """All bursts with their words, as they came or as Python's sets of `set_words` list them.

        SCALE-Sim fetches in CALC mode what it has put into such sets.
        """
        self._file.seek(0)
        for at in range(0, len(self._bursts), len(Burst._fields)):
            burst = Burst(*self._bursts[at : at + len(Burst._fields)])
            words = np.frombuffer(self._file.read(8 * burst.words), np.int64)
            yield burst, words if set_words is None else _as_sets(words, set_words)


def _as_sets(words: NDArray[np.int64], set_words: int) -> NDArray[np.int64]:
    """Words set by set, each in the order of a Python set."""
    listed: list[int] = []
    for at in range(0, len(words), set_words):
        listed += set(words[at : at + set_words].tolist())
    return np.array(listed, np.int64)


def rows_of(
    bursts: Iterator[tuple[Burst, NDArray[np.int64]]], width: int
) -> Iterator[NDArray[np.int64]]:
    """Bursts as blocks of rows: cycle, then `width` words."""
    most = max(1, CELLS // (1 + width))
    rows = np.empty((most, 1 + width), np.int64)
    filled = 0
    for burst, words in bursts:
        own, sent = burst.words_per_cycle, 0
        while sent < burst.cycles:
            count = min(burst.cycles - sent, most - filled)
            block = rows[filled : filled + count]
            block[:, 0] = np.arange(burst.first_cycle + sent, burst.first_cycle + sent + count)
            block[:, 1 + own :] = FILLER
            places = np.full(count * own, NOTHING, np.int64)
            part = words[sent * own : (sent + count) * own]
            places[: len(part)] = part
            block[:, 1 : 1 + own] = places.reshape(count, own)
            sent, filled = sent + count, filled + count
            if filled == most:
                yield rows
                filled = 0
    if filled:
        yield rows[:filled]
