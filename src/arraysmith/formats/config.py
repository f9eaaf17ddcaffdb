"""SCALE-Sim config files (`.cfg`): the array, its buffers and the bandwidth mode of a run.

Every section SCALE-Sim knows is accepted; a key nobody knows is refused with the nearest known one,
because a mistyped key would otherwise change nothing and say nothing.
"""

from __future__ import annotations

import configparser
import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arraysmith.errors import InputFileError, InvalidHardwareError
from arraysmith.files import read_text
from arraysmith.hardware import Accelerator, Dataflow, StreamBandwidths

if TYPE_CHECKING:
    from pathlib import Path

_LAYOUT = ("CustomLayout", "SRAMBankBandwidth", "SRAMBankNum", "SRAMBankPort")
_KNOWN: dict[str, tuple[str, ...]] = {
    "general": ("run_name",),
    "architecture_presets": (
        "ArrayHeight",
        "ArrayWidth",
        "IfmapSramSzkB",
        "FilterSramSzkB",
        "OfmapSramSzkB",
        "IfmapOffset",
        "FilterOffset",
        "OfmapOffset",
        "Dataflow",
        "Bandwidth",
        "ReadRequestBuffer",
        "WriteRequestBuffer",
        "MemoryBanks",
    ),
    "layout": tuple(f"{operand}{key}" for operand in ("Ifmap", "Filter") for key in _LAYOUT),
    "sparsity": (
        "SparsitySupport",
        "SparseRep",
        "OptimizedMapping",
        "BlockSize",
        "RandomNumberGeneratorSeed",
    ),
    "run_presets": ("InterfaceBandwidth", "UseRamulatorTrace"),
}
_REFUSED = {
    ("sparsity", "SparsitySupport"): "sparsity",
    ("layout", "IfmapCustomLayout"): "a custom ifmap layout",
    ("layout", "FilterCustomLayout"): "a custom filter layout",
    ("run_presets", "UseRamulatorTrace"): "Ramulator traces",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a config file says."""

    run_name: str
    accelerator: Accelerator
    bandwidths: StreamBandwidths | None
    """Of USER mode; None is CALC mode."""
    offsets: tuple[int, int, int]
    """Where ifmap, filter and ofmap begin in the addresses of traces."""


def read_config(path: Path) -> Config:
    """Read a SCALE-Sim config.

    Raises:
        InputFileError: unreadable, a missing, unknown or impossible entry, or a feature that the
            model does not cover; the message names section, key and value.
    """
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # keys as they are written
    try:
        parser.read_string(read_text(path), source=path.name)
    except configparser.Error as error:
        reason = str(error).replace("\n", " ")
        raise InputFileError(f"{path}: not a config file ({reason})") from error
    _check_names(path, parser)
    for (section, key), feature in _REFUSED.items():
        if parser.get(section, key, fallback="false").strip().lower() not in ("false", "0", "no"):
            raise InputFileError(
                f"{path}: [{section}] {key} asks for {feature}, which is not supported; "
                "set it to False"
            )
    mode = _text(path, parser, "run_presets", "InterfaceBandwidth")
    if mode not in ("CALC", "USER"):
        raise InputFileError(
            f"{path}: [run_presets] InterfaceBandwidth is {mode!r}; give CALC or USER"
        )
    presets = "architecture_presets"
    dataflow = _text(path, parser, presets, "Dataflow")
    if dataflow not in [known.value for known in Dataflow]:
        raise InputFileError(f"{path}: [{presets}] Dataflow is {dataflow!r}; give os, ws or is")
    try:
        accelerator = Accelerator(
            rows=_integer(path, parser, presets, "ArrayHeight"),
            cols=_integer(path, parser, presets, "ArrayWidth"),
            dataflow=Dataflow(dataflow),
            ifmap_buffer_kib=_integer(path, parser, presets, "IfmapSramSzkB"),
            filter_buffer_kib=_integer(path, parser, presets, "FilterSramSzkB"),
            ofmap_buffer_kib=_integer(path, parser, presets, "OfmapSramSzkB"),
        )
        bandwidths = _bandwidths(path, parser) if mode == "USER" else None
    except InvalidHardwareError as error:
        raise InputFileError(f"{path}: {error}") from error
    ifmap, filter_, ofmap = (
        _integer(path, parser, presets, f"{operand}Offset", "0")
        for operand in ("Ifmap", "Filter", "Ofmap")
    )
    name = parser.get("general", "run_name", fallback=path.stem).strip().strip("\"'")
    return Config(
        run_name=name,
        accelerator=accelerator,
        bandwidths=bandwidths,
        offsets=(ifmap, filter_, ofmap),
    )


def _bandwidths(path: Path, parser: configparser.ConfigParser) -> StreamBandwidths:
    """USER mode's three channels. Of a list of bandwidths SCALE-Sim uses the first (Q6)."""
    presets = "architecture_presets"
    first = _text(path, parser, presets, "Bandwidth").split(",")[0].strip()
    try:
        ofmap = int(first)
    except ValueError as error:
        raise InputFileError(
            f"{path}: [{presets}] Bandwidth is {first!r}, not a whole number"
        ) from error
    rates = []
    for operand in ("Ifmap", "Filter"):
        rate = _integer(path, parser, "layout", f"{operand}SRAMBankBandwidth")
        banks = _integer(path, parser, "layout", f"{operand}SRAMBankNum", "1")
        if banks < 1 or rate % banks:
            raise InputFileError(
                f"{path}: [layout] {operand}SRAMBankBandwidth {rate} is not a multiple of "
                f"{operand}SRAMBankNum {banks}"
            )
        rates.append(rate)
    return StreamBandwidths(
        ifmap_words_per_cycle=rates[0],
        filter_words_per_cycle=rates[1],
        ofmap_words_per_cycle=ofmap,
    )


def _check_names(path: Path, parser: configparser.ConfigParser) -> None:
    for section in parser.sections():
        if section not in _KNOWN:
            raise InputFileError(f"{path}: unknown section [{section}]{_nearest(section, _KNOWN)}")
        for key in parser[section]:
            if key not in _KNOWN[section]:
                raise InputFileError(
                    f"{path}: unknown key {key!r} in [{section}]{_nearest(key, _KNOWN[section])}"
                )


def _nearest(name: str, known: tuple[str, ...] | dict[str, tuple[str, ...]]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


def _text(path: Path, parser: configparser.ConfigParser, section: str, key: str) -> str:
    try:
        return parser.get(section, key).strip()
    except configparser.Error as error:
        raise InputFileError(f"{path}: {key} is missing in [{section}]") from error


def _integer(
    path: Path, parser: configparser.ConfigParser, section: str, key: str, default: str = ""
) -> int:
    if default and not parser.has_option(section, key):
        return int(default)
    text = _text(path, parser, section, key)
    try:
        return int(text)
    except ValueError as error:
        raise InputFileError(
            f"{path}: [{section}] {key} is {text!r}, not a whole number"
        ) from error
