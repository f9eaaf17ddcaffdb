"""SCALE-Sim's config files: what is read, and what is refused in which words."""

from __future__ import annotations

import pytest

from arraysmith.errors import InputFileError
from arraysmith.formats.config import Config, read_config
from arraysmith.hardware import Accelerator, Dataflow, StreamBandwidths

GOOD = """\
[general]
run_name = "lenet"

[architecture_presets]
ArrayHeight: 8
ArrayWidth: 4
IfmapSramSzkB: 16
FilterSramSzkB: 32
OfmapSramSzkB: 8
IfmapOffset: 0
FilterOffset: 10000000
OfmapOffset: 20000000
Dataflow: ws
Bandwidth: 10
MemoryBanks: 1
ReadRequestBuffer: 32
WriteRequestBuffer: 32

[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: 10
IfmapSRAMBankNum: 10
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: 10
FilterSRAMBankNum: 10
FilterSRAMBankPort: 2

[sparsity]
SparsitySupport: false
SparseRep: ellpack_block
OptimizedMapping: false
BlockSize: 8
RandomNumberGeneratorSeed: 40

[run_presets]
InterfaceBandwidth: CALC
UseRamulatorTrace: False
"""
MINIMAL = """\
[architecture_presets]
ArrayHeight = 8
ArrayWidth = 4
IfmapSramSzkB = 16
FilterSramSzkB = 32
OfmapSramSzkB = 8
Dataflow = ws
[run_presets]
InterfaceBandwidth = CALC
"""
ACCELERATOR = Accelerator(
    rows=8,
    cols=4,
    dataflow=Dataflow.WS,
    ifmap_buffer_kib=16,
    filter_buffer_kib=32,
    ofmap_buffer_kib=8,
)


@pytest.mark.parametrize(
    ("text", "run_name"),
    [(GOOD, "lenet"), ("\ufeff" + GOOD, "lenet"), (MINIMAL, "array"), ("# ours\n" + GOOD, "lenet")],
    ids=["whole", "bom", "minimal", "comment"],
)
def test_config(tmp_path, text, run_name):
    """Array, dataflow and buffers; a config without a name is named by its file."""
    path = tmp_path / "array.cfg"
    path.write_text(text, encoding="utf-8")
    offsets = (0, 0, 0) if text is MINIMAL else (0, 10_000_000, 20_000_000)
    assert read_config(path) == Config(
        run_name=run_name, accelerator=ACCELERATOR, bandwidths=None, offsets=offsets
    )


PRESETS = (
    "ArrayHeight, ArrayWidth, IfmapSramSzkB, FilterSramSzkB, OfmapSramSzkB, IfmapOffset, "
    "FilterOffset, OfmapOffset, Dataflow, Bandwidth, ReadRequestBuffer, WriteRequestBuffer, "
    "MemoryBanks"
)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[layout]", "[layouts]", "unknown section [layouts]; did you mean 'layout'?"),
        (
            "[layout]",
            "[xyz]",
            (
                "unknown section [xyz]; known: general, architecture_presets, layout, sparsity, "
                "run_presets"
            ),
        ),
        (
            "ArrayHeight",
            "ArrayHigh",
            "unknown key 'ArrayHigh' in [architecture_presets]; did you mean 'ArrayHeight'?",
        ),
        ("MemoryBanks", "Zz", f"unknown key 'Zz' in [architecture_presets]; known: {PRESETS}"),
        ("ArrayWidth: 4\n", "", "ArrayWidth is missing in [architecture_presets]"),
        ("Dataflow: ws\n", "", "Dataflow is missing in [architecture_presets]"),
        ("InterfaceBandwidth: CALC\n", "", "InterfaceBandwidth is missing in [run_presets]"),
        (
            "CALC",
            "calc",
            "[run_presets] InterfaceBandwidth is 'calc'; give CALC or USER",
        ),
        ("ws", "rs", "[architecture_presets] Dataflow is 'rs'; give os, ws or is"),
        (
            "ArrayHeight: 8",
            "ArrayHeight: 0",
            "an array of 0×4 PEs cannot be; give at least 1×1",
        ),
        ("SramSzkB: 32", "SramSzkB: 0", "filter_buffer_kib is 0, needs at least 1"),
        (
            "ArrayWidth: 4",
            "ArrayWidth: 4.5",
            "[architecture_presets] ArrayWidth is '4.5', not a whole number",
        ),
        (
            "SparsitySupport: false",
            "SparsitySupport: true",
            "[sparsity] SparsitySupport asks for sparsity, which is not supported; set it to False",
        ),
        (
            "IfmapCustomLayout: False",
            "IfmapCustomLayout: True",
            (
                "[layout] IfmapCustomLayout asks for a custom ifmap layout, which is not "
                "supported; set it to False"
            ),
        ),
        (
            "FilterCustomLayout: False",
            "FilterCustomLayout: True",
            (
                "[layout] FilterCustomLayout asks for a custom filter layout, which is not "
                "supported; set it to False"
            ),
        ),
        (
            "UseRamulatorTrace: False",
            "UseRamulatorTrace: True",
            (
                "[run_presets] UseRamulatorTrace asks for Ramulator traces, which is not "
                "supported; set it to False"
            ),
        ),
        (
            "[general]\n",
            "",
            (
                "not a config file (File contains no section headers. file: 'array.cfg', line: 1 "
                "'run_name = \"lenet\"\\n')"
            ),
        ),
        (
            "ArrayWidth: 4\n",
            "ArrayWidth: 4\nArrayWidth: 8\n",
            (
                "not a config file (While reading from 'array.cfg' [line  7]: option 'ArrayWidth' "
                "in section 'architecture_presets' already exists)"
            ),
        ),
        (
            "[layout]",
            "[general]",
            (
                "not a config file (While reading from 'array.cfg' [line 19]: section 'general' "
                "already exists)"
            ),
        ),
    ],
)
def test_bad_configs_are_named(tmp_path, old, new, message):
    """Section, key, value and the way out, in one message."""
    path = tmp_path / "array.cfg"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputFileError) as caught:
        read_config(path)
    assert str(caught.value) == f"{path}: {message}"


USER = GOOD.replace("InterfaceBandwidth: CALC", "InterfaceBandwidth: USER")


def test_user_mode_takes_three_bandwidths(tmp_path):
    """The ofmap's is the first of `Bandwidth`, the others are those of [layout]."""
    path = tmp_path / "array.cfg"
    path.write_text(USER.replace("Bandwidth: 10\n", "Bandwidth: 7, 8\n", 1), encoding="utf-8")
    found = read_config(path)
    assert found.bandwidths == StreamBandwidths(
        ifmap_words_per_cycle=10, filter_words_per_cycle=10, ofmap_words_per_cycle=7
    )
    assert found.offsets == (0, 10_000_000, 20_000_000)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "IfmapSRAMBankBandwidth: 10",
            "IfmapSRAMBankBandwidth: 15",
            "[layout] IfmapSRAMBankBandwidth 15 is not a multiple of IfmapSRAMBankNum 10",
        ),
        (
            "\nBandwidth: 10",
            "\nBandwidth: wide",
            "[architecture_presets] Bandwidth is 'wide', not a whole number",
        ),
        (
            "\nBandwidth: 10",
            "\nBandwidth: 0",
            "ofmap_words_per_cycle is 0, needs a whole number of at least 1",
        ),
        ("\nBandwidth: 10", "", "Bandwidth is missing in [architecture_presets]"),
    ],
)
def test_bad_user_configs_are_named(tmp_path, old, new, message):
    """A bandwidth that cannot be is named with its key and value."""
    path = tmp_path / "array.cfg"
    assert old in USER
    path.write_text(USER.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputFileError) as caught:
        read_config(path)
    assert str(caught.value) == f"{path}: {message}"
