"""Spaces of designs, their files and options: what may be asked for, and every refusal whole."""

from __future__ import annotations

import numpy as np
import pytest

import arraysmith
from arraysmith.errors import ArraysmithError, DesignSpaceError, InputFileError
from arraysmith.flow.question import Question
from arraysmith.formats.space import read_space
from arraysmith.hardware import Dataflow, Microarchitecture
from arraysmith.mapping import Goal
from arraysmith.space import (
    AXES,
    Constraints,
    DesignSpace,
    Objective,
    parse_arrays,
    parse_axis,
    parse_dataflows,
    parse_kib,
    parse_rates,
)
from arraysmith.workload import Gemm, Workload

OS, WS, IS = Dataflow.OS, Dataflow.WS, Dataflow.IS
SERIAL, BUS = Microarchitecture.WS_SERIAL, Microarchitecture.OS_BUS
NET = Workload(name="net", layers=(Gemm(name="g", M=30, N=20, K=40),))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("8", (8,)),
        ("1:4", (1, 2, 3, 4)),
        ("8:32:8", (8, 16, 24, 32)),
        ("1:8:3", (1, 4, 7)),
        (" 32, 8 ,16", (8, 16, 32)),
        ("4:6,5:7,4", (4, 5, 6, 7)),
        ("65536", (65536,)),
    ],
)
def test_parse_axis(text, values):
    """A number, a range with both ends, a step, a list: ascending and without repeats."""
    assert parse_axis(text, "rows") == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "rows '' is no range; give A:B, A:B:STEP or a list like 8,16,32"),
        ("8,,16", "rows '' is no range; give A:B, A:B:STEP or a list like 8,16,32"),
        ("8-16", "rows '8-16' is no range; give A:B, A:B:STEP or a list like 8,16,32"),
        ("-8", "rows '-8' is no range; give A:B, A:B:STEP or a list like 8,16,32"),
        ("1:2:3:4", "rows '1:2:3:4' is no range; give A:B, A:B:STEP or a list like 8,16,32"),
        ("9:8", "rows '9:8' is an empty range; give A:B[:STEP], A ≤ B, STEP ≥ 1"),
        ("1:8:0", "rows '1:8:0' is an empty range; give A:B[:STEP], A ≤ B, STEP ≥ 1"),
        ("0:8", "rows '0:8': sizes go from 1 to 65536"),
        ("1:65537", "rows '1:65537': sizes go from 1 to 65536"),
    ],
)
def test_parse_axis_refuses(text, message):
    """What cannot be a range is named with the way out."""
    with pytest.raises(DesignSpaceError) as caught:
        parse_axis(text, "rows")
    assert str(caught.value) == message


def test_parse_dataflows():
    """Any order and case, repeats and spaces; the order of the answer is fixed."""
    assert parse_dataflows("is, OS,os") == ((OS,), (IS,))
    assert parse_dataflows("ws+os,ws") == ((WS,), (OS, WS))


@pytest.mark.parametrize(("text", "first"), [("os,rs", "rs"), ("", ""), ("xs,ab,ws", "ab")])
def test_parse_dataflows_refuses(text, first):
    """An unknown dataflow is named."""
    with pytest.raises(DesignSpaceError) as caught:
        parse_dataflows(text)
    assert str(caught.value) == f"dataflow {first!r} is unknown; give os, ws, is or a list"


def test_parse_arrays_kib_and_rates():
    """Either kind of array; KiB beyond the sides of arrays; rates that may be fractions."""
    assert parse_arrays("ws,os+is") == ((WS,), (OS, IS))
    assert parse_arrays("ws-serial, OS-bus+ws-serial,ws-serial") == ((SERIAL,), (BUS, SERIAL))
    assert parse_kib("64,1:2", "x") == (1, 2, 64)
    assert parse_kib("100000", "x") == (100000,)
    assert parse_rates("16,12.8,16.0", "x") == (12.8, 16)


NO_RATES = " is no list of numbers, like 8,16"


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_rates, "8,x", "--r '8,x'" + NO_RATES),
        (parse_rates, "nan", "--r 'nan'" + NO_RATES),
        (parse_kib, "1:2000000", "--r '1:2000000': sizes go from 1 to 1048576"),
    ],
)
def test_parse_kib_and_rates_refuse(parse, text, message):
    """The option is named, and what it takes."""
    with pytest.raises(DesignSpaceError) as caught:
        parse(text, "--r")
    assert str(caught.value) == message


def test_parse_arrays_refuses():
    """An unknown microarchitecture, also beside a dataflow, with those that there are."""
    known = ", ".join(Microarchitecture)
    for text, unknown in (("ws-serial,rs", "rs"), ("ws-serial+os", "os")):
        with pytest.raises(DesignSpaceError) as caught:
            parse_arrays(text)
        message = f"microarchitecture {unknown!r} is unknown; give one of {known}"
        assert str(caught.value) == message


RATE = "a DRAM bandwidth of {} bytes a cycle cannot be; give 0.01 to 1,000,000"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": ()}, "the range of rows is empty; give at least one value"),
        ({"arrays": ()}, "the range of arrays is empty; give at least one value"),
        ({"rows": (2, 1)}, "the range of rows is not ascending: 2, 1"),
        ({"cols": (1, 1)}, "the range of cols has a value twice: 1, 1"),
        ({"rows": (0, 1)}, "the range of rows has 0; give whole numbers from 1 to 65,536"),
        ({"rows": (True,)}, "the range of rows has True; give whole numbers from 1 to 65,536"),
        ({"cols": (1.5,)}, "the range of cols has 1.5; give whole numbers from 1 to 65,536"),
        (
            {"ifmap_kib": (2**20 + 1,)},
            "the range of ifmap_kib has 1048577; give whole numbers from 1 to 1,048,576",
        ),
        ({"dram_bytes_per_cycle": (0,)}, RATE.format(0)),
        (
            {"arrays": ((),)},
            "an array that can do (); give Dataflows or Microarchitectures",
        ),
        (
            {"arrays": (("os",),)},
            "an array that can do ('os',); give Dataflows or Microarchitectures",
        ),
        ({"arrays": ((OS, OS),)}, "an array that can do os+os: one of them twice"),
        (
            {"arrays": ((OS,), (SERIAL,))},
            (
                "dataflows and microarchitectures in one space; dataflows are scalesim's, "
                "microarchitectures are physical's"
            ),
        ),
        (
            dict.fromkeys(("rows", "cols", "ifmap_kib", "filter_kib"), tuple(range(1, 60001))),
            "38,880,000,000,000,000,000 designs are more than can be numbered; give ranges a step",
        ),
    ],
)
def test_design_space_refuses(change, message):
    """A space without designs, with too many, or in disorder cannot be built."""
    with pytest.raises(ArraysmithError) as caught:
        DesignSpace(**({"rows": (1,), "cols": (1,)} | change))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_pes": "9"}, "max_pes is '9'; give a number"),
        ({"max_pes": True}, "max_pes is True; give a number"),
        ({"max_area_mm2": 0}, "max_area_mm2 is 0; give a number above 0"),
        ({"max_power_w": float("inf")}, "max_power_w is inf; give a number above 0"),
        ({"max_area_mm2": float("nan")}, "max_area_mm2 is nan; give a number above 0"),
        ({"min_utilization": 1.5}, "min_utilization is 1.5; it is a fraction, at most 1"),
    ],
)
def test_constraints_refuse(limits, message):
    """What no design could keep, or what is no number."""
    with pytest.raises(DesignSpaceError) as caught:
        Constraints(**limits)
    assert str(caught.value) == message


def test_designs_are_numbered_with_the_last_axis_fastest():
    """Numbers, places, columns and accelerators tell of the same design."""
    space = DesignSpace(
        rows=(2, 4), cols=(3,), arrays=((SERIAL,), (BUS, SERIAL)), psum_bytes=(2, 4),
        dram_bytes_per_cycle=(0.5, 8),
    )  # fmt: skip
    assert space.shape == (2, 2, 1, 1, 1, 1, 2, 1, 2)
    assert space.size == 16
    columns = space.columns(np.arange(16))
    assert list(columns) == list(AXES)
    for number in range(16):
        each = space.accelerator(number, Question().base)
        assert each.rows == columns["rows"][number] == (2, 4)[number // 4 % 2]
        assert each.psum_bytes == columns["psum_bytes"][number] == (2, 4)[number % 2]
        assert float(each.dram_bytes_per_cycle) == columns["dram_bytes_per_cycle"][number]
        assert "+".join(each.microarchitectures) == columns["arrays"][number]


EMPTY = " contradict each other: of "


@pytest.mark.parametrize(
    ("limits", "question", "message"),
    [
        (
            {"max_pes": 3},
            {},
            (
                "max_pes 3 and the ranges of the axes contradict each other: of 27 designs the "
                "nearest has 4; loosen it, or give other ranges"
            ),
        ),
        (
            {"max_power_w": 1e-9},
            {"model": "physical"},
            "max_power_w 1e-09 and the ranges of the axes contradict each other: of ",
        ),
        (
            {"max_power_w": 1.0},
            {},
            "max_power_w under scalesim, which knows no energies; give --model physical",
        ),
        (
            {},
            {"objectives": (Objective.ENERGY,)},
            (
                "energy is no objective under scalesim: its counts have quirks, and no energy of "
                "them would be right; give --model physical"
            ),
        ),
        (
            {},
            {"map_for": Goal.ENERGY},
            "scalesim has no mappings to choose; give --model physical",
        ),
        ({}, {"objectives": ()}, "objectives are none; give one or several, none twice"),
        (
            {},
            {"objectives": (Objective.CYCLES, Objective.CYCLES)},
            "objectives are cycles, cycles; give one or several, none twice",
        ),
        (
            {},
            {"search": "annealing"},
            "search 'annealing' is unknown; give exhaustive or ",
        ),
        ({}, {"budget": 0}, "budget 0, patience None; give numbers of at least 1"),
        ({}, {"clock_mhz": 0}, "clock_mhz is 0; give a number above 0"),
    ],
)
def test_questions_that_cannot_be_answered(limits, question, message):
    """By name, before anything is computed; a message that depends on figures by its beginning."""
    space = DesignSpace(rows=(2, 3, 4), cols=(2, 3, 4), constraints=Constraints(**limits))
    with pytest.raises(DesignSpaceError) as caught:
        arraysmith.explore(NET, space, **question)
    whole = not message.endswith((" ",))
    assert str(caught.value) == message if whole else str(caught.value).startswith(message)


def test_two_constraints_that_contradict_each_other_are_both_named():
    """How many designs keep each, and that none keeps both."""
    space = DesignSpace(rows=(1, 40), cols=(1, 40), arrays=((OS,),))
    used = [
        each.utilization for each in arraysmith.explore(NET, space).facts.ranking if each.pes == 1
    ]
    limits = Constraints(min_utilization=used[0] * 0.99, max_total_kib=256)
    space = DesignSpace(
        rows=(1, 40), cols=(1, 40), arrays=((OS,),), ifmap_kib=(64, 65), constraints=limits
    )
    arraysmith.explore(NET, space)  # each by itself is kept, and together
    tight = Constraints(max_pes=1, max_area_mm2=arraysmith.explore(NET, space).best.area_mm2[1] / 9)
    with pytest.raises(DesignSpaceError, match=r"^max_area_mm2 .* and the ranges of the axes"):
        arraysmith.explore(NET, DesignSpace(rows=(1, 40), cols=(1, 40), constraints=tight))
    workload = Workload(name="w", layers=(Gemm(name="g", M=64, N=64, K=4),))
    # On one PE the utilization is nearly 1, on 64×64 the fill costs most of the time.
    limits = Constraints(max_area_mm2=1.5, min_utilization=0.05)
    space = DesignSpace(rows=(1, 256), cols=(256,), arrays=((OS,),), constraints=limits)
    with pytest.raises(DesignSpaceError) as caught:
        arraysmith.explore(workload, space)
    assert str(caught.value).startswith(("max_area_mm2 1.5 and ", "min_utilization 0.05 and "))
    assert EMPTY in str(caught.value)


FULL = """
model = "physical"
objectives = ["cycles", "area"]
map_for = "edp"
clock_mhz = 800

[axes]
rows = "8:24:8"
cols = [8, 16]
arrays = ["os-bus", "ws-serial+os-bus"]
ifmap_kib = [32, 64]
filter_kib = 64
ofmap_kib = "1:3"
dram_bytes_per_cycle = [8, 12.8]
operand_bytes = [1, 2]
psum_bytes = 4

[constraints]
max_pes = 384
max_area_mm2 = 4.5
max_total_kib = 200
max_power_w = 2
min_utilization = 0.01

[search]
strategy = "genetic"
seed = 3
budget = 40
patience = 20
"""


def written(folder, text):
    """A space file."""
    path = folder / "space.toml"
    path.write_text(text)
    return path


def test_a_full_file_is_read_whole(tmp_path):
    """Every key there is comes out as the space and the question take it."""
    read = read_space(written(tmp_path, FULL))
    assert read["axes"] == {
        "rows": (8, 16, 24), "cols": (8, 16), "arrays": ((BUS,), (SERIAL, BUS)),
        "ifmap_kib": (32, 64), "filter_kib": (64,), "ofmap_kib": (1, 2, 3),
        "dram_bytes_per_cycle": (8, 12.8), "operand_bytes": (1, 2), "psum_bytes": (4,),
    }  # fmt: skip
    assert set(read["axes"]) == set(AXES)
    limits = Constraints(**read["constraints"])
    assert limits == Constraints(
        max_pes=384, max_area_mm2=4.5, max_total_kib=200, max_power_w=2, min_utilization=0.01
    )
    assert read["search"] == {"strategy": "genetic", "seed": 3, "budget": 40, "patience": 20}
    assert read["wanted"] == {
        "model": "physical", "objectives": ("cycles", "area"), "map_for": "edp", "clock_mhz": 800,
    }  # fmt: skip
    assert DesignSpace(**read["axes"], constraints=limits).size == 3 * 2 * 2 * 2 * 3 * 2 * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[axis]\nrows = 1", "axis is unknown; did you mean axes?"),
        ("[axes]\nrow = 1", "[axes] row is unknown; did you mean rows?"),
        ("[constraints]\nmax_pe = 1", "[constraints] max_pe is unknown; did you mean max_pes?"),
        (
            "[search]\nx = 1",
            "[search] x is unknown; known are strategy, seed, budget, patience",
        ),
        ("axes = 3", "axes is 3; give a table, [axes]"),
        ("[axes]\nrows = []", "the range of rows is empty; give at least one value"),
        ("[axes]\nrows = true", "rows is True; give a range like '8:64:8' or a list"),
        ("[axes]\nrows = [[1]]", "rows is [[1]]; give a range like '8:64:8' or a list"),
        ("[constraints]\nmax_pes = 1.5", "max_pes is 1.5; give a whole number"),
        ("[constraints]\nmin_utilization = 'a'", "min_utilization is 'a'; give a number"),
        ("[search]\nstrategy = 1", "strategy is 1; give a text in quotes"),
        ("objectives = 3", "objectives is 3; give a list, as ['cycles', 'area']"),
        ("objectives = [3]", "an objective is 3; give a text in quotes"),
    ],
)
def test_bad_files_are_named(tmp_path, text, message):
    """File, table, key and the way out."""
    path = written(tmp_path, text)
    with pytest.raises(InputFileError) as caught:
        read_space(path)
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize("text", ["rows = = 1", "a" + "[" * 5000])
def test_files_that_are_no_toml(tmp_path, text):
    """Said so."""
    path = written(tmp_path, text)
    with pytest.raises(InputFileError, match=r"space\.toml: no TOML \("):
        read_space(path)


GIVEN = ("explore", "-t", "gemm.csv", "-i", "gemm", "--json", "-o", "run")


@pytest.fixture
def gemm(tmp_path):
    """A topology of one product."""
    (tmp_path / "gemm.csv").write_text("Layer, M, N, K,\na, 30, 20, 40,\n")


@pytest.mark.usefixtures("gemm")
def test_options_go_before_the_file(command, tmp_path):
    """What is typed overrides the file; the rest is the file's."""
    import json

    written(tmp_path, FULL)
    finished = command(
        *GIVEN, "--space", "space.toml", "--rows", "4", "--search", "exhaustive", "--max-pes", "64"
    )
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found["search"] == "exhaustive"
    assert found["objectives"] == ["cycles", "area"]
    assert found["map_for"] == "edp"
    assert found["clock_mhz"] == 800
    assert found["constraints"]["max_pes"] == 64
    assert found["constraints"]["max_area_mm2"] == 4.5
    assert found["covered"] == 2 * 2 * 2 * 3 * 2 * 2
    assert {each["rows"] for each in found["front"]} == {4}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--bandwidth", "8"], 2, "--bandwidth changes nothing in CALC mode, which never stalls"),
        (["--search", "annealing"], 1, "arraysmith: search 'annealing' is unknown; give "),
        (["--objective", "speed"], 1, "arraysmith: objective 'speed' is unknown; give one or "),
        (["--objective", "energy"], 1, "arraysmith: energy is no objective under scalesim"),
        (["--max-power-w", "1"], 2, "--max-power-w belongs to --model physical"),
        (["--resume", "--restart"], 1, "arraysmith: --resume and --restart; give one of them"),
        (["--space", "none.toml"], 1, "arraysmith: none.toml: cannot be read (No such file"),
    ],
)
@pytest.mark.usefixtures("gemm")
def test_wrong_use_from_the_door(command, tmp_path, arguments, code, message):
    """Exit 2 for wrong usage, 1 for what cannot be; nothing is written."""
    finished = command(*GIVEN, *arguments)
    assert finished.returncode == code
    assert message in finished.stderr
    assert not (tmp_path / "run").exists()
