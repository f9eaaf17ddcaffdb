"""How the command line talks: bars, tables, JSON, and one line for an error."""

from __future__ import annotations

import io
import os
import shlex
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from arraysmith.errors import ArraysmithError, MissingExtraError
from arraysmith.files import json_bytes
from arraysmith.progress import silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from arraysmith.progress import Advance, Progress
    from arraysmith.reporting.tables import Table as TableFacts

_EXTRAS = {
    "torch": "learn",
    "safetensors": "learn",
    "matplotlib": "report",
    "plotly": "report",
    "jinja2": "report",
    "pyarrow": "parquet",
    "onnx": "onnx",
    "joblib": "search",
    "pandas": "search",
    "pymoo": "search",
    "dask": "dask",
    "distributed": "dask",
}

MAX_WIDTH = 10_000
"""Of a table, in characters."""


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
        _Rate(),
        TextColumn("{task.fields[note]}"),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(escape(name), total=total, note="")

        def advance(steps: int = 1, note: str = "") -> None:
            bars.update(task, advance=steps)
            if note:
                bars.update(task, note=escape(note))

        yield advance


class _Rate(ProgressColumn):
    """Steps a second, where that says something."""

    def render(self, task: Task) -> Text:
        """As `1,234/s`."""
        speed = task.finished_speed or task.speed
        return Text(
            "" if speed is None else f"{speed:,.3g}/s" if speed < 100 else f"{speed:,.0f}/s"
        )


def say(text: str = "") -> None:
    """One line for a person."""
    click.echo(text)


def show_json(facts: object) -> None:
    """Machine-readable results on standard output."""
    click.echo(json_bytes(facts).decode(), nl=False)


def show_table(facts: TableFacts) -> None:
    """A table; names from files are shown as they are, never as markup.

    Where the terminal is too narrow, columns that are not essential are left out and named.
    """
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    unicode = console.encoding.startswith("utf")
    table = _drawn(facts, range(len(facts.columns)), unicode=unicode)
    left_out: list[str] = []
    # A measure is never above its own limit, so it gets another one than the terminal's.
    unlimited = console.options.update(max_width=MAX_WIDTH)
    if console.measure(table, options=unlimited).maximum > console.width:
        kept = [i for i, column in enumerate(facts.columns) if not column.optional]
        left_out = [column.name for column in facts.columns if column.optional]
        table = _drawn(facts, kept, unicode=unicode)
    console.print(table)
    if left_out:
        click.echo(f"(left out in a terminal of {console.width} columns: {', '.join(left_out)})")
    if facts.note:
        click.echo(facts.note)
    click.echo()


def _drawn(facts: TableFacts, kept: Iterable[int], *, unicode: bool) -> Table:
    drawn = Table(
        title=escape(facts.title),
        title_justify="left",
        show_edge=False,
        box=box.HEAVY_HEAD if unicode else box.ASCII,
    )
    places = list(kept)
    for place in places:
        column = facts.columns[place]
        drawn.add_column(escape(column.name), justify="right" if column.numeric else "left")
    for row in facts.rows:
        drawn.add_row(*(escape(row.cells[place]) for place in places))
    return drawn


def show_any_text() -> None:
    """Let a terminal that knows no × or … show a ? instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Anything a user can mend ends with one message and exit code 1, without a traceback."""
    try:
        yield
    except ArraysmithError as error:
        _fail(str(error))
    except KeyboardInterrupt as interrupt:
        _fail(f"interrupted; {str(interrupt) or 'what was finished is kept'}")
    except BrokenPipeError:
        # Who read our output has seen enough; Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise SystemExit(1) from None
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        missing = MissingExtraError(
            f"this verb needs {error.name}: pip install 'arraysmith[{extra}]'"
        )
        _fail(str(missing))
    except OSError as error:
        _fail(f"standard output cannot be written ({error.strerror})")


def _fail(message: str) -> None:
    click.echo(f"arraysmith: {message}", err=True)
    raise SystemExit(1)
