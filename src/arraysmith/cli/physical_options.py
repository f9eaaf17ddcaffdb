"""Options of a physical accelerator, and the accelerators that they describe."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from arraysmith.cli.options import Verb
    from arraysmith.formats.technology import Technology
    from arraysmith.hardware import Microarchitecture, PhysicalAccelerator
    from arraysmith.workload import Workload

DEFAULT_SIDE, DEFAULT_FILTER_KIB, DEFAULT_BANDWIDTH = 16, 128, 16.0
DEFAULT_MICROARCHITECTURE = "ws-double-buffered"
_PORTS = ("ifmap_port", "filter_port", "ofmap_port")
_WORDS = ("operand_bytes", "psum_bytes", "output_bytes")
PHYSICAL_OPTIONS = (
    "microarchitecture",
    *_PORTS,
    *_WORDS,
    "whole_buffers",
    "technology",
    "batch",
)
"""Names of the options that only the model `physical` knows."""


model_option = click.option(
    "--model",
    "time_model",
    type=click.Choice(["scalesim", "physical"]),
    default="scalesim",
    show_default=True,
    help="What the figures are: SCALE-Sim's, or what the array would really take.",
)


def physical_options(verb: Verb) -> Verb:
    """Options of a `PhysicalAccelerator` beyond sides, buffers and bandwidth."""
    options = [
        click.option(
            "--microarchitecture",
            metavar="LIST",
            default=None,
            help="os-bus, os-shift, os-overlapped, ws-serial, ws-double-buffered, is-serial, "
            "is-double-buffered; commas separate arrays, + joins what one array can do  "
            f"[default: {DEFAULT_MICROARCHITECTURE}]",
        ),
        _word_option("operand", 1, "a word of ifmap and filter"),
        _word_option("psum", 4, "a partial sum"),
    ]
    for option in reversed(options):
        verb = option(verb)
    return ports_and_technology(verb)


def ports_and_technology(verb: Verb) -> Verb:
    """Options that every design of a space shares."""
    options = [
        *(
            click.option(
                f"--{operand}-port",
                type=int,
                default=None,
                metavar="BYTES",
                help=f"What passes between {operand} buffer and array in a cycle  [default: as "
                "much as the array takes]",
            )
            for operand in ("ifmap", "filter", "ofmap")
        ),
        _word_option("output", 1, "an output, in DRAM"),
        click.option(
            "--whole-buffers",
            is_flag=True,
            help="A tile may fill a whole buffer, not half of it as in double buffering.",
        ),
        click.option(
            "--batch",
            type=int,
            default=1,
            show_default=True,
            metavar="IMAGES",
            help="Images at a time, which share every filter.",
        ),
        click.option(
            "--technology",
            type=click.Path(path_type=Path),
            default=None,
            metavar="FILE",
            help="What accesses cost (TOML)  [default: generic 45 nm]",
        ),
    ]
    for option in reversed(options):
        verb = option(verb)
    return verb


def _word_option(word: str, default: int, what: str) -> Any:  # noqa: ANN401
    return click.option(
        f"--{word}-bytes",
        type=int,
        default=default,
        show_default=True,
        metavar="BYTES",
        help=f"Of {what}.",
    )


def check_together(time_model: str, belongs: dict[str, tuple[str, ...]]) -> None:
    """Refuse by name what belongs to the other model.

    Args:
        time_model: the model that was chosen.
        belongs: for each model the options that mean nothing to the other.
    """
    context = click.get_current_context()
    other = "scalesim" if time_model == "physical" else "physical"
    for option in context.command.params:
        given = context.get_parameter_source(option.name or "")
        if option.name in belongs[other] and given is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[-1]} belongs to --model {other}")


def accelerators_of(
    given: dict[str, Any], base: dict[str, Any] | None = None
) -> tuple[PhysicalAccelerator, ...]:
    """What the options describe.

    Args:
        given: options by name; None is not given.
        base: values in place of the defaults, by field.
    """
    from arraysmith.hardware import PhysicalAccelerator

    fields: dict[str, Any] = {
        "rows": DEFAULT_SIDE,
        "cols": DEFAULT_SIDE,
        "filter_buffer_kib": DEFAULT_FILTER_KIB,
        **(base or {}),
    }
    names = {
        "rows": "rows",
        "cols": "cols",
        "ifmap_kib": "ifmap_buffer_kib",
        "filter_kib": "filter_buffer_kib",
        "ofmap_kib": "ofmap_buffer_kib",
        "bandwidth": "dram_bytes_per_cycle",
        **{port: f"{port}_bytes" for port in _PORTS},
        **{word: word for word in _WORDS},
    }
    fields |= {
        field: given[option] for option, field in names.items() if given.get(option) is not None
    }
    arrays = fields.pop("microarchitectures", None)
    if given["microarchitecture"] is not None or arrays is None:
        arrays = parse_microarchitectures(given["microarchitecture"] or DEFAULT_MICROARCHITECTURE)
    return tuple(
        PhysicalAccelerator(
            **fields, microarchitectures=each, double_buffered=not given["whole_buffers"]
        )
        for each in arrays
    )


def parse_microarchitectures(text: str) -> tuple[tuple[Microarchitecture, ...], ...]:
    """`a,b+c`: one array that is an a, and one that can be b and c."""
    from arraysmith.errors import InvalidHardwareError
    from arraysmith.hardware import Microarchitecture
    from arraysmith.space import split_arrays

    known = [each.value for each in Microarchitecture]
    arrays = []
    for array in split_arrays(text):
        names = [name.lower() for name in array]
        for name in names:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"give {', '.join(known)}"
                raise InvalidHardwareError(f"microarchitecture {name!r} is unknown; {hint}")
        arrays.append(tuple(Microarchitecture(name) for name in dict.fromkeys(names)))
    return tuple(dict.fromkeys(arrays))


def technology_of(given: dict[str, Any]) -> Technology:
    """The technology file that was given, or the shipped one."""
    from arraysmith.formats.technology import DEFAULT, read_technology

    return read_technology(given["technology"] or DEFAULT)


def base_of(
    workload: Workload, config: Path | None, mappings: Path | None, given: dict[str, Any]
) -> dict[str, Any]:
    """What a config, a dataflow or a mapping file says of the array, in place of the defaults."""
    from arraysmith.formats.config import read_config
    from arraysmith.formats.mappings import read_mappings
    from arraysmith.hardware import PIPELINED
    from arraysmith.space import parse_dataflows

    base: dict[str, Any] = {}
    if given["dataflow"] is not None and given["microarchitecture"] is not None:
        raise click.UsageError("give either --dataflow or --microarchitecture")
    if config is not None:
        array = read_config(config).accelerator
        names = ("rows", "cols", "ifmap_buffer_kib", "filter_buffer_kib", "ofmap_buffer_kib")
        base = {name: getattr(array, name) for name in names}
        base["microarchitectures"] = ((PIPELINED[array.dataflow],),)
    if given["dataflow"] is not None:
        dataflows = parse_dataflows(given["dataflow"])
        base["microarchitectures"] = tuple(
            tuple(PIPELINED[each] for each in array) for array in dataflows
        )
    elif mappings is not None and config is None:
        # One array that can do whatever the file asks for.
        named = [mapping.microarchitecture for mapping in read_mappings(mappings, workload)]
        base["microarchitectures"] = (tuple(dict.fromkeys(named)),)
    return base
