"""Technology files and what follows from them: every refusal word for word, costs by hand."""

from __future__ import annotations

import dataclasses
import itertools
import math
import tomllib
from pathlib import Path

import pytest

import arraysmith
from arraysmith.errors import InputFileError, InvalidHardwareError
from arraysmith.formats.technology import CONSTANTS, DEFAULT, SETS, Constant, read_technology
from arraysmith.hardware import Microarchitecture, PhysicalAccelerator
from arraysmith.simulation.physical.cost import (
    UNCERTAINTY,
    Area,
    EnergyTable,
    area_mm2,
    energy_tables,
    flip_flops,
    ranks_agree,
    sram_pj,
)

GOOD = DEFAULT.read_text(encoding="utf-8")
MID_MULTIPLY = (
    'multiply_pj = { value = 0.2, source = "Horowitz, ISSCC 2014, 45 nm 0.9 V: int8 multiply" }'
)
KNOWN = ", ".join(CONSTANTS)
GIVE = 'give multiply_pj = { value = ..., source = "..." }'
MICROS = tuple(Microarchitecture)


def array(*micros, **changes):
    """An 8×4 array, WS serial unless told."""
    micros = micros or (Microarchitecture.WS_SERIAL,)
    return PhysicalAccelerator(**{"rows": 8, "cols": 4, "microarchitectures": micros} | changes)


def tables(micro=Microarchitecture.WS_SERIAL, **changes):
    """The shipped technology's energies on that array."""
    return energy_tables(read_technology(), array(micro, **changes), micro)


def mid_multiply(entry):
    """A change of one constant of the shipped file."""
    return (MID_MULTIPLY, entry)


def said(tmp_path, text):
    """What is said of a technology file of that text, after its path."""
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputFileError) as caught:
        read_technology(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_shipped_technology_has_a_source_everywhere():
    """Three sets of the same constants, each with a source of some length."""
    technology = read_technology()
    assert (technology.name, technology.node_nm) == ("generic 45 nm", 45)
    for name, constants in technology.sets.items():
        for key in CONSTANTS:
            assert len(getattr(constants, key).source) > 15, (name, key)
    assert technology.other_nodes == ("flip_flop_pj: 40 nm",)


def test_shipped_file_is_in_wheel_and_sdist():
    """It lies in the package, hatch's default choice, and nothing in its configuration excludes."""
    package = Path(arraysmith.__file__).parent
    assert DEFAULT.is_relative_to(package)
    project = package.parents[1] / "pyproject.toml"
    if not project.is_file():  # the tests run against an installed wheel, which has the file
        return
    targets = tomllib.loads(project.read_text(encoding="utf-8"))["tool"]["hatch"]["build"][
        "targets"
    ]
    assert "wheel" not in targets
    assert "src" in targets["sdist"]["include"]
    assert "exclude" not in targets["sdist"]
    # Hatch leaves out what git ignores.
    assert "toml" not in (project.parent / ".gitignore").read_text(encoding="utf-8")


def test_shipped_file_reads_alike_from_anywhere(tmp_path):
    """A copy, with a byte order mark and under another name, is the same technology."""
    path = tmp_path / "copy.toml"
    path.write_text("\ufeff" + GOOD, encoding="utf-8")
    assert read_technology(path) == read_technology()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            mid_multiply(""),
            f"[mid] multiply_pj is missing; {GIVE}",
        ),
        (mid_multiply("multiply_pj = 0.2"), f"[mid] multiply_pj is 0.2; {GIVE}"),
        (
            mid_multiply('multiply_pj = { source = "x" }'),
            '[mid] multiply_pj: value is missing; give { value = ..., source = "..." }',
        ),
        (
            mid_multiply("multiply_pj = { value = 0.2 }"),
            '[mid] multiply_pj: source is missing; give { value = ..., source = "..." }',
        ),
        (
            mid_multiply('multiply_pj = { value = 0.2, source = " " }'),
            "[mid] multiply_pj: source is ' '; say where the value comes from",
        ),
        (
            mid_multiply("multiply_pj = { value = 0.2, source = 7 }"),
            "[mid] multiply_pj: source is 7; say where the value comes from",
        ),
        (
            mid_multiply('multiply_pj = { value = 0.2, sources = "x" }'),
            "[mid] multiply_pj: unknown entry 'sources'; did you mean 'source'?",
        ),
        (
            mid_multiply('multiply_pj = { value = -0.2, source = "x" }'),
            "[mid] multiply_pj: value is -0.2; give a number from 0 to 1e+06",
        ),
        (
            mid_multiply('multiply_pj = { value = 1e7, source = "x" }'),
            "[mid] multiply_pj: value is 10000000.0; give a number from 0 to 1e+06",
        ),
        *(
            (
                mid_multiply(f'multiply_pj = {{ value = {written}, source = "x" }}'),
                f"[mid] multiply_pj: value is {shown}; give a finite number",
            )
            for written, shown in [
                ("nan", "nan"),
                ("inf", "inf"),
                ("true", "True"),
                ('"0.2"', "'0.2'"),
                ("[0.2]", "[0.2]"),
                ("1" + 400 * "0", "1" + 400 * "0"),
            ]
        ),
        (
            mid_multiply('multiply_pj = { value = 0.2, source = "x", node_nm = 0 }'),
            "[mid] multiply_pj: node_nm is 0; give nanometres, as 45",
        ),
        (
            mid_multiply('multiply_pj = { value = 0.05, source = "x" }'),
            "[mid] multiply_pj: value is 0.05, less than the 0.1 of [low]; give at least that",
        ),
        (
            mid_multiply('multiply_pj = { value = 0.5, source = "x" }'),
            "[high] multiply_pj: value is 0.4, less than the 0.5 of [mid]; give at least that",
        ),
        (
            mid_multiply(MID_MULTIPLY.replace("multiply_pj", "multiply_pJ")),
            "[mid] unknown entry 'multiply_pJ'; did you mean 'multiply_pj'?",
        ),
        (
            mid_multiply(MID_MULTIPLY.replace("multiply_pj", "zz")),
            f"[mid] unknown entry 'zz'; known: {KNOWN}",
        ),
        (("[mid]", "[mdi]"), "unknown entry 'mdi'; did you mean 'mid'?"),
        (("[high]", "[xyz]"), "unknown entry 'xyz'; known: name, node_nm, low, mid, high"),
        (("node_nm = 45\n", ""), "node_nm is missing; give nanometres, as 45"),
        (("node_nm = 45\n", "node_nm = -45\n"), "node_nm is -45; give nanometres, as 45"),
        (("node_nm = 45\n", 'node_nm = "45"\n'), "node_nm is '45'; give nanometres, as 45"),
        (('name = "generic 45 nm"', ""), "name is missing; name the technology"),
        (('name = "generic 45 nm"', 'name = ""'), "name is ''; name the technology"),
    ],
)
def test_refusals(tmp_path, change, message):
    """One message with set, key, value and the way out."""
    assert GOOD.count(change[0]) == 1
    assert said(tmp_path, GOOD.replace(*change)) == message


def test_limits_of_shares(tmp_path):
    """A share is one: cells fill no more than the area, 8 bit cost no more than 64."""
    whole = GOOD.replace("logic_utilization = { value = 0.7", "logic_utilization = { value = 1.2")
    assert said(tmp_path, whole) == (
        "[low] logic_utilization: value is 1.2; give a number from 0.01 to 1"
    )
    narrow = GOOD.replace("8_kib = { value = 0.81", "8_kib = { value = 0.1")
    assert said(tmp_path, narrow) == (
        "[low] sram_8bit_share_at_8_kib: value is 0.1; give a number from 0.125 to 1"
    )


def test_sets_are_ordered_by_what_they_cost(tmp_path):
    """Less of the area filled is a larger area, so utilization falls from low to high."""
    before, high = GOOD.split("[high]")
    text = before + "[high]" + high.replace("{ value = 0.7", "{ value = 0.8")
    assert said(tmp_path, text) == (
        "[mid] logic_utilization: value is 0.7, less than the 0.8 of [high]; give at least that"
    )


def test_sets_that_are_missing(tmp_path):
    """A file with no tables, or with something else in a table's place."""
    head = 'name = "x"\nnode_nm = 45\n'
    want = "; give a table of constants for each of low, mid, high"
    assert said(tmp_path, head) == f"[low] is missing{want}"
    assert said(tmp_path, head + "low = 3\n") == f"[low] is 3{want}"
    assert said(tmp_path, GOOD[: GOOD.index("[high]")]) == f"[high] is missing{want}"


def test_files_that_are_no_technology(tmp_path):
    """Nothing there, no text, no TOML: one error each."""
    with pytest.raises(InputFileError) as caught:
        read_technology(tmp_path / "none.toml")
    assert str(caught.value) == (
        f"{tmp_path / 'none.toml'}: cannot be read (No such file or directory)"
    )
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(InputFileError) as caught:
        read_technology(binary)
    assert str(caught.value) == f"{binary}: not a text file (byte 0 is not UTF-8)"
    assert said(tmp_path, "[mid") == (
        "not a TOML file (Expected ']' at the end of a table declaration (at end of document))"
    )
    assert said(tmp_path, GOOD + "[mid]\n").startswith("not a TOML file (Cannot declare ('mid',)")
    assert said(tmp_path, "a = " + 100_000 * "[").startswith("not a TOML file (")


def test_energies_by_hand():
    """An 8×4 WS array with 64, 8 and 256 KiB, of which only the ifmap's port is narrow."""
    mid = tables(filter_buffer_kib=8, ofmap_buffer_kib=256, ifmap_port_bytes=1)["mid"]
    # 0.2 + 0.1; 48 · 0.009; 8 · 20
    assert mid.mac_pj == pytest.approx(0.3)
    assert mid.pe_cycle_pj == pytest.approx(0.432)
    assert mid.dram_pj_per_byte == 160
    # 64 KiB is 3 of the 5 doublings from 8 to 256: 0.81 - 0.6 · 0.33 = 0.612 of 1.65 · 64^0.554
    assert mid.ifmap_read_pj_per_byte == pytest.approx(0.612 * 1.65 * 2 ** (6 * 0.554))
    assert mid.ifmap_write_pj_per_byte == mid.ifmap_read_pj_per_byte
    # 4 columns of a byte: 32 bit, of which 24 of the 56 above 8: 0.81 + 0.19 · 24/56
    share = 0.81 + 0.19 * 3 / 7
    assert mid.filter_read_pj_per_byte == pytest.approx(share * 1.65 * 2 ** (3 * 0.554) / 4)
    # 4 columns of 4 bytes: two accesses of 64 bit, and two bring twice as much as one
    assert mid.ofmap_write_pj_per_byte == pytest.approx(1.65 * 2 ** (8 * 0.554) / 8)


def test_horowitz_points():
    """The high set's curve passes by what it was fitted to: 10, 20 and 100 pJ."""
    for kib, pj in [(8, 10), (32, 20), (1024, 100)]:
        assert sram_pj(3.8, 0.473, (0.81, 0.48), kib=kib, bits=64) == pytest.approx(pj, rel=0.03)


@pytest.mark.parametrize(("kib", "share"), [(1, 0.81), (8, 0.81), (256, 0.48), (4096, 0.48)])
def test_narrow_shares(kib, share):
    """As measured at the two ends, and beyond them no guess."""
    shares = (0.81, 0.48)
    whole = sram_pj(1.0, 0.5, shares, kib=kib, bits=64)
    assert whole == pytest.approx(math.sqrt(kib))
    assert sram_pj(1.0, 0.5, shares, kib=kib, bits=8) == pytest.approx(share * whole)


def test_energies_follow_the_widths():
    """A multiplication grows with the square of the operands, an addition with the sum."""
    mid = tables(operand_bytes=2, psum_bytes=3)["mid"]
    assert mid.mac_pj == pytest.approx(0.2 * 4 + 0.1 * 24 / 32)
    assert mid.pe_cycle_pj == pytest.approx((16 + 16 + 24) * 0.009)


def test_edges_of_the_array():
    """A port that is wide enough is the edge it feeds, and IS swaps the operands."""
    sizes = {"ifmap_buffer_kib": 16, "filter_buffer_kib": 16, "rows": 2, "cols": 1}
    ws = tables(**sizes)["mid"]
    swapped = tables(Microarchitecture.IS_SERIAL, **sizes)["mid"]
    assert ws.ifmap_read_pj_per_byte < ws.filter_read_pj_per_byte
    assert swapped.ifmap_read_pj_per_byte == ws.filter_read_pj_per_byte
    assert swapped.filter_read_pj_per_byte == ws.ifmap_read_pj_per_byte
    assert swapped.ofmap_read_pj_per_byte == ws.ofmap_read_pj_per_byte
    assert tables(**sizes, ifmap_port_bytes=2)["mid"] == ws


def test_flip_flops():
    """48 in a WS PE of 8 and 32 bits, and what overlapping folds takes besides."""
    assert {each.value: flip_flops(each, 8, 32) for each in Microarchitecture} == {
        "os-bus": 48,
        "os-shift": 48,
        "os-overlapped": 80,
        "ws-serial": 48,
        "ws-double-buffered": 57,
        "is-serial": 48,
        "is-double-buffered": 57,
    }


def test_areas_by_hand():
    """NAND2 equivalents of a PE: WS 480 + 40 + 432, OS 480 + 40 + 576."""
    technology = read_technology()
    areas = area_mm2(technology, array(ifmap_buffer_kib=16))
    assert areas["mid"] == Area(
        array_mm2=pytest.approx(32 * 952 * 0.798e-6 / 0.7), buffers_mm2=pytest.approx(144 * 0.0035)
    )
    assert areas["low"].total_mm2 == pytest.approx(32 * 952 * 0.532e-6 / 0.7 + 144 * 0.00233)
    both = array(Microarchitecture.WS_SERIAL, Microarchitecture.OS_BUS)
    assert area_mm2(technology, both) == area_mm2(technology, array(Microarchitecture.OS_BUS))
    assert area_mm2(technology, both)["mid"].array_mm2 == pytest.approx(32 * 1096 * 0.798e-6 / 0.7)
    swapped = array(Microarchitecture.IS_SERIAL)
    assert area_mm2(technology, swapped) == area_mm2(technology, array())


def test_a_narrow_accumulator_saves_area():
    """A WS PE of 24 bits has 8 · 13.5 of 952 NAND2 less: 11 %, of the 10 to 18 synthesised."""
    technology = read_technology()
    (wide, narrow) = (
        area_mm2(technology, array(psum_bytes=width))["mid"].array_mm2 for width in (4, 3)
    )
    assert 1 - narrow / wide == pytest.approx(8 * 13.5 / 952)


def test_page_shows_the_shipped_file():
    """Each constant of docs/technology.md has the values of the file, in the file's order."""
    page = Path(__file__).parents[1] / "docs" / "technology.md"
    rows = [
        [cell.strip(" `") for cell in line.split("|")[1:5]]
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    sets = read_technology().sets.values()
    assert rows == [
        [key, *(f"{getattr(constants, key).value:g}" for constants in sets)] for key in CONSTANTS
    ]


@pytest.mark.parametrize("micro", MICROS)
@pytest.mark.parametrize("port", [None, 1, 3, 8, 24])
def test_sets_are_ordered_and_buffers_monotone(micro, port):
    """low ≤ mid ≤ high in all figures, in any size; a larger buffer costs no less an access."""
    ports = {f"{operand}_port_bytes": port for operand in ("ifmap", "filter", "ofmap")}
    before = None
    for kib in (1, 2, 5, 8, 11, 16, 32, 100, 256, 300, 1024, 10_000, 100_000, 1_000_000):
        sizes = {f"{operand}_buffer_kib": kib for operand in ("ifmap", "filter", "ofmap")}
        found = tables(micro, **ports, **sizes)
        assert tuple(found) == SETS
        rows = [dataclasses.astuple(each) for each in found.values()]
        for smaller, larger in itertools.pairwise(rows):
            assert all(a <= b for a, b in zip(smaller, larger, strict=True))
        flat = [value for row in rows for value in row]
        assert before is None or all(a <= b for a, b in zip(before, flat, strict=True))
        before = flat
        areas = list(area_mm2(read_technology(), array(micro, **sizes)).values())
        assert [each.total_mm2 for each in areas] == sorted(each.total_mm2 for each in areas)


def test_energy_table_without_a_technology():
    """Figures of one's own, whole numbers too."""
    own = dict.fromkeys((field.name for field in dataclasses.fields(EnergyTable)), 1)
    assert EnergyTable(**own).mac_pj == 1


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, True, "1", None])
def test_energy_table_refuses(value):
    """Nothing gives energy back."""
    own = dict.fromkeys((field.name for field in dataclasses.fields(EnergyTable)), 1.0)
    with pytest.raises(InvalidHardwareError) as caught:
        EnergyTable(**own | {"mac_pj": value})
    assert str(caught.value) == f"mac_pj is {value!r}, needs a finite number of at least 0"


def test_constants_by_hand_are_checked():
    """A constant is valid from birth, wherever it is made."""
    with pytest.raises(InvalidHardwareError) as caught:
        Constant(value=1.0, source="", node_nm=45)
    assert str(caught.value) == "source is ''; say where the value comes from"


@pytest.mark.parametrize(
    ("first", "second", "agree"),
    [
        ((1, 2, 3), (2, 3, 4), True),
        ((2, 3, 4), (1, 2, 3), True),
        ((1, 2, 3), (1, 2, 3), True),
        ((1, 2, 3), (2, 1, 4), False),
        ((1, 2, 3), (1, 3, 4), False),
    ],
    ids=["less", "more", "equal", "crossed", "equal in one"],
)
def test_ranks_agree(first, second, agree):
    """Two designs are ranked only where all three sets say the same."""
    assert ranks_agree(first, second) is agree


def test_uncertainty_is_said():
    """The sentence that is printed with energies and areas."""
    assert UNCERTAINTY == (
        "Counts are exact, energies and areas are estimates: "
        "MAC and SRAM energy ×/÷ 2–3, DRAM energy ×/÷ 2, area ×/÷ 1.5."
    )
