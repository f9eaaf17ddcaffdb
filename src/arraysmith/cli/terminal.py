"""How the command line talks: bars, tables, JSON, and one line for an error."""

from __future__ import annotations

import shlex
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table

from arraysmith.errors import ArraysmithError, MissingExtraError
from arraysmith.progress import silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arraysmith.progress import Advance, Progress
    from arraysmith.reporting.tables import Table as TableFacts

_EXTRAS = {
    "torch": "learn",
    "safetensors": "learn",
    "matplotlib": "report",
    "plotly": "report",
    "jinja2": "report",
}


def command_line() -> str:
    """The command as it was typed, for the record."""
    return shlex.join(["arraysmith", *sys.argv[1:]])


def progress_bars(*, quiet: bool) -> Progress:
    """Bars on standard error, where a person looks; nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        return silent
    return _bar


@contextmanager
def _bar(name: str, total: int) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(escape(name), total=total, note="")

        def advance(steps: int = 1, note: str = "") -> None:
            bars.update(task, advance=steps)
            if note:
                bars.update(task, note=escape(note))

        yield advance


def say(text: str = "") -> None:
    """One line for a person."""
    click.echo(text)


def show_json(facts: object) -> None:
    """Machine-readable results on standard output."""
    encoded = msgspec.json.encode(facts, order="deterministic")
    click.echo(msgspec.json.format(encoded, indent=2).decode())


def show_table(facts: TableFacts) -> None:
    """A table; names from files are shown as they are, never as markup."""
    table = Table(title=escape(facts.title), title_justify="left", show_edge=False)
    for column in facts.columns:
        table.add_column(escape(column.name), justify="right" if column.numeric else "left")
    for row in facts.rows:
        table.add_row(*(escape(cell) for cell in row.cells))
    width = None if sys.stdout.isatty() else 160
    Console(width=width, highlight=False).print(table)
    if facts.note:
        click.echo(facts.note)
    click.echo()


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Anything a user can mend ends with one message and exit code 1, without a traceback."""
    try:
        yield
    except ArraysmithError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("interrupted; what was finished is kept")
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        missing = MissingExtraError(
            f"this verb needs {error.name}: pip install 'arraysmith[{extra}]'"
        )
        _fail(str(missing))


def _fail(message: str) -> None:
    click.echo(f"arraysmith: {message}", err=True)
    raise SystemExit(1)
