"""How long work tells that it goes on: a contract that the command line fulfils with bars."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


class Advance(Protocol):
    """Tells that `steps` more are done; `note` is a short text beside the bar."""

    def __call__(self, steps: int = 1, note: str = "") -> None:
        """Move the bar."""


class Progress(Protocol):
    """Opens a bar of `total` steps under a name."""

    def __call__(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """Start a piece of work."""


@contextmanager
def silent(name: str, total: int) -> Iterator[Advance]:
    """Show nothing: the default of every function."""
    del name, total
    yield ignore


def ignore(steps: int = 1, note: str = "") -> None:
    """Move no bar."""
    del steps, note
