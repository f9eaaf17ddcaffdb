"""Pictures and tables of an exploration: facts word for word, data equal to the columns."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
from exploration_cases import design, made_up, simulated
from support import EVIL

from arraysmith.reporting import (
    exploration_facts,
    exploration_interactive,
    exploration_page,
    exploration_pictures,
    exploration_png,
    exploration_tables,
    html,
    interactive,
    scalesim_facts,
)

SIGNATURES = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


def unpacked(packed, count):
    """A column of the page as a browser reads it."""
    if "constant" in packed:
        return np.full(count, packed["constant"])
    numbers = np.frombuffer(base64.b64decode(packed["data"]), np.dtype("<" + packed["dtype"]))
    return np.array(packed["words"])[numbers] if "words" in packed else numbers


def test_a_proven_best_is_called_so():
    """One objective, proven: the sentence has design, value, space and what was evaluated."""
    facts, _ = made_up(("cycles",), model="scalesim CALC")
    assert exploration_tables.verdict(facts) == (
        f"{facts.best}: {facts.best.total_cycles:,} cycles, the best by cycles of 800 designs with "
        "at most 2,048 PEs: proven, 400 evaluated, 400 ruled out by bounds (1.25 s; model: "
        "scalesim CALC; made up, 45 nm)."
    )


@pytest.mark.parametrize(
    ("gap", "said"),
    [(0.032, "at most 3.2 % from the optimum"), (None, "how far from the optimum is not known")],
)
def test_what_is_not_proven_is_best_found(gap, said):
    """Never best, never optimal; the gap or that it is not known."""
    facts, _ = made_up(
        ("cycles",), proven=False, gap=gap, search="genetic", search_seed=0, max_pes=None
    )
    assert exploration_tables.verdict(facts) == (
        f"{facts.best}: {facts.best.total_cycles:,} cycles, best found by cycles by genetic (seed "
        f"0) in 400 evaluations among 800 designs; {said} (1.25 s; stopped: the budget is spent; "
        "model: physical; made up, 45 nm)."
    )
    page = html.render(html.RunFacts(exploration=facts))
    assert "The best design found" in page
    own = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert not re.search(r"\bproven\b|\boptimal\b", own)


def test_a_front_says_how_sure_it_is():
    """Proven over the space, or found and how much its hypervolume can grow."""
    facts, _ = made_up(max_pes=None)
    best = f"{facts.best}, {facts.best.total_cycles:,} cycles"
    ending = "(1.25 s; model: physical; made up, 45 nm)."
    assert exploration_tables.verdict(facts) == (
        "The front of cycles and energy, proven over 800 designs, 400 evaluated, 400 ruled out by "
        f"bounds: {facts.front_size} designs, none of which any design betters; the best by cycles "
        f"is {best} {ending}"
    )
    facts, _ = made_up(proven=False, gap=0.05, search="random", search_seed=7, max_pes=None)
    assert exploration_tables.verdict(facts) == (
        f"A front of cycles and energy, found by random (seed 7) in 400 evaluations among 800 "
        f"designs: {facts.front_size} designs, none of which betters another; the best of them by "
        f"cycles is {best}; its hypervolume can grow by at most 5.0 % (1.25 s; stopped: the budget "
        "is spent; model: physical; made up, 45 nm)."
    )


def test_a_table_has_the_columns_that_say_something():
    """Axes of several values and what the model knows; the others are not there."""
    facts, _ = made_up()
    table = exploration_tables.designs("First", facts.ranking, facts)
    assert table.title == "First (model: physical)"
    assert [column.name for column in table.columns] == [
        "#", "array", "ifmap KiB", "ofmap KiB", "PEs", "cycles", "stalls", "utilization",
        "energy low–mid–high", "power low–mid–high", "EDP low–mid–high", "area mm² low–mid–high",
    ]  # fmt: skip
    first = facts.ranking[0]
    assert table.rows[0].cells[:7] == (
        "1",
        str(first),
        str(first.ifmap_buffer_kib),
        str(first.ofmap_buffer_kib),
        f"{first.pes:,}",
        f"{first.total_cycles:,}",
        f"{first.stall_cycles:,}",
    )
    plain, _ = made_up(("cycles",), model="scalesim CALC")
    names = [column.name for column in exploration_tables.designs("", plain.front, plain).columns]
    assert names == ["#", "array", "ifmap KiB", "ofmap KiB", "PEs", "cycles", "utilization"]


def test_a_long_front_is_thinned_and_says_so():
    """Both ends stay."""
    facts, _ = made_up(count=3000, all_front=True)
    table = exploration_tables.front(facts, 5)
    assert len(table.rows) == 5
    assert table.rows[0].cells[1] == str(facts.front[0])
    assert table.rows[-1].cells[1] == str(facts.front[-1])
    assert table.note.startswith("5 of 3,000 shown.")


def test_the_figure_of_the_front_holds_the_columns():
    """Dots and front together are all designs, each with its own tooltip; the star is the best."""
    facts, explored = made_up()
    evaluated, front, best = exploration_interactive.front_2d(facts, explored).data
    columns = explored.columns
    for trace, rows in ((evaluated, ~columns["front"]), (front, columns["front"])):
        assert set(trace.customdata) == set(np.flatnonzero(rows))
        at = np.array(trace.customdata)
        assert np.array_equal(trace.x, columns["total_cycles"][at])
        assert np.allclose(trace.y, columns["energy_pj"][at] / 1e9, rtol=1e-12)
    row = int(front.customdata[3])
    record = design(columns, row)
    said = front.text[3].split("<br>")
    assert said[0] == str(record)
    assert f"cycles: {record.total_cycles:,}" in said
    assert f"energy: {exploration_facts.digits(record.energy_pj[1] / 1e9)} mJ" in said
    assert list(best.x) == [facts.best.total_cycles]
    assert (np.diff(front.x) >= 0).all()


def test_three_objectives_have_a_colour_and_other_pairs_can_be_drawn():
    """The third objective colours the front; any two columns can be axes."""
    facts, explored = made_up(("cycles", "energy", "area"))
    front = exploration_interactive.front_2d(facts, explored).data[1]
    at = np.array(front.customdata)
    assert np.allclose(front.marker.color, explored.columns["area_mm2"][at])
    other = exploration_interactive.front_2d(facts, explored, "area_mm2", "total_cycles")
    assert other.layout.xaxis.title.text == "area (mm²)"
    assert set(other.data[1].y) == set(explored.columns["total_cycles"][at])


def test_the_page_carries_every_column():
    """What the browser unpacks is what was explored; estimates have seven digits."""
    facts, explored = made_up(hold=("power_w",))
    found = exploration_facts.shown(facts, explored)
    data = exploration_page.designs_data(facts, found)
    for packed in data["columns"]:
        values = unpacked(packed, data["count"])
        if packed["name"] == "front":
            assert np.array_equal(values == "yes", explored.columns["front"])
        elif "words" in packed:
            assert np.array_equal(values, explored.columns[packed["name"]])
        else:
            wanted = explored.columns[packed["name"]].astype(float)
            exact = 1e-7 if packed["estimate"] else 0
            assert np.allclose(values, wanted, rtol=exact, atol=0, equal_nan=True)
    json.dumps(data, allow_nan=False)


def test_more_designs_than_a_page_takes_keep_their_front():
    """The front first, evenly drawn others; the page says how many there are."""
    facts, explored = made_up(count=900)
    found = exploration_facts.shown(facts, explored, most=200)
    assert found.count == 200
    assert int(found.front.sum()) == facts.front_size
    note = exploration_page.designs_data(facts, found)["note"]
    assert note.startswith("200 of 900 evaluated designs are on this page, the front first")


def test_without_columns_the_listed_designs_are_drawn():
    """A run whose file of designs is gone still has a front."""
    facts, _ = made_up()
    found = exploration_facts.shown(facts, None)
    assert found.count == len({*facts.front, *facts.ranking, *facts.best_per_dataflow})
    assert int(found.front.sum()) == len(facts.front)
    assert "All designs" in html.render(html.RunFacts(exploration=facts))


def test_each_cell_of_a_landscape_is_of_one_kind():
    """Evaluated, bounded, unknown or excluded; what is beyond max_pes says so."""
    facts, explored = made_up(("cycles",), count=60)
    quantity = exploration_facts.shown(facts, explored).quantities["total_cycles"]
    for landscape in explored.landscapes:
        cells = exploration_pictures.cells(facts, landscape, quantity)
        kinds = [np.isfinite(cells.evaluated), np.isfinite(cells.bounded), cells.unknown]
        kinds += [where for _, where in cells.excluded]
        assert (sum(kind.astype(int) for kind in kinds) == 1).all()
        ((why, where),) = cells.excluded
        assert why == "max_pes = 2,048"
        assert np.array_equal(where, landscape.rows[:, None] * landscape.cols[None, :] > 2048)


def test_tooltips_of_a_landscape_say_what_is_known():
    """A value, a bound, or the constraint."""
    facts, explored = made_up(("cycles",), count=60)
    said = {
        trace.hovertemplate
        for figure in exploration_interactive.landscapes(facts, explored)
        for trace in figure.data
    }
    assert "%{y}×%{x}: excluded by max_pes = 2,048<extra></extra>" in said
    assert "%{y}×%{x}: not evaluated<extra></extra>" in said
    assert any("at least" in each and "cycles, not evaluated" in each for each in said)


def test_parallel_coordinates_keep_order_and_ends():
    """A line of numbers holds them; colours go from the worst to the best."""
    facts, explored = made_up(count=3000)
    found = exploration_facts.shown(facts, explored)
    drawn = exploration_pictures.parallel(facts, found)
    titles = [each.title for each in drawn.dimensions]
    assert titles == ["rows", "columns", "kind", "ifmap KiB", "ofmap KiB", "cycles", "energy (mJ)"]
    cycles = drawn.dimensions[5].places
    assert len(cycles) == exploration_pictures.MOST_LINES
    assert (np.diff(cycles) <= 0).all()
    assert drawn.ranks[-1] == 1
    assert 10 ** cycles[-1] == pytest.approx(facts.best.total_cycles)
    kinds = drawn.dimensions[2]
    assert kinds.tick_texts == ("os_pipelined", "ws_double_buffered", "ws_pipelined")
    assert (np.abs(kinds.places - np.round(kinds.places)) <= 0.25).all()


@pytest.mark.parametrize(
    ("arguments", "limit", "text"),
    [
        ({}, 1.0, "proven optimum"),
        ({"proven": False, "gap": 0.25}, 0.75, "bound, 25.0 % away"),
        ({"proven": False, "gap": None}, None, ""),
    ],
)
def test_convergence_ends_at_the_best(arguments, limit, text):
    """The last value is the best one, the line is its optimum or its bound."""
    facts, _ = made_up(("cycles",), **arguments)
    quantity = exploration_facts.shown(facts, None).quantities["total_cycles"]
    found = exploration_pictures.course(facts, quantity)
    assert found.values[-1] == facts.best.total_cycles
    assert found.limit_text == text
    assert found.limit == (None if limit is None else pytest.approx(limit * found.values[-1]))


def test_a_share_of_the_hypervolume_is_limited_by_the_gap():
    """Of a front, 100 % is what was reached and the bound lies above."""
    facts, _ = made_up(proven=False, gap=0.1)
    quantity = exploration_facts.shown(facts, None).quantities["total_cycles"]
    found = exploration_pictures.course(facts, quantity)
    assert (found.values[-1], found.limit) == (100, pytest.approx(110))


@pytest.mark.parametrize("suffix", SIGNATURES)
def test_pictures_are_written_as_their_suffix_says(tmp_path, suffix):
    """Four pictures, each of its kind, none empty, names with signs of formulas as they are."""
    facts, explored = made_up(workload=EVIL)
    drawings = {
        "front": lambda path: exploration_png.front(path, facts, explored),
        "parallel": lambda path: exploration_png.parallel(path, facts, explored),
        "landscapes": lambda path: exploration_png.landscapes(path, facts, explored),
        "convergence": lambda path: exploration_png.convergence(path, facts),
    }
    for name, draw in drawings.items():
        path = tmp_path / f"{name}.{suffix}"
        draw(path)
        content = path.read_bytes()
        assert content.startswith(SIGNATURES[suffix])
        assert len(content) > 4000
        draw(path)
        assert path.read_bytes() == content


def test_a_picture_of_three_objectives_is_written(tmp_path):
    """With a colour bar; and one of a single objective whose columns are gone."""
    exploration_png.front(tmp_path / "three.png", *made_up(("cycles", "energy", "area")))
    exploration_png.front(tmp_path / "one.png", made_up(("utilization",))[0], None)
    assert {path.name for path in tmp_path.iterdir()} == {"three.png", "one.png"}


def test_hostile_names_stay_text():
    """No name becomes markup, in a kind of array, a workload or a technology."""
    facts, explored = made_up(workload=EVIL)
    columns = dict(explored.columns)
    columns["dataflow"] = np.where(columns["rows"] > 16, EVIL, columns["dataflow"])
    page = html.render(
        html.RunFacts(
            exploration=facts,
            explored=type(explored)(columns=columns, landscapes=explored.landscapes),
            best_design=simulated(EVIL, names=(EVIL, "b")),
        )
    )
    assert EVIL not in page
    assert "<img src=x" not in page


def test_cycles_under_scalesim_are_all_accounted_for():
    """Streaming is T of each fold; fill and drain are the rest but the stalls."""
    found = simulated()
    for layer in found.layers:
        compute, fill, stall = (part(layer) for _, part in scalesim_facts.CYCLE_PARTS)
        assert compute == layer.folds * layer.T
        assert compute + fill + stall == layer.total_cycles
        assert fill == layer.folds * (2 * 8 + 8 - 2) - 1
    bars = interactive.breakdown(found).data
    assert [bar.name for bar in bars] == ["compute", "fill and drain", "stall"]
    assert np.sum([bar.y for bar in bars], axis=0).sum() == found.total_cycles


def test_the_roofline_under_scalesim_holds_its_layers():
    """MACs per DRAM word and per cycle, below as many MACs a cycle as there are PEs."""
    found = simulated()
    *roofs, dots = interactive.roofline(found).data
    assert [roof.name for roof in roofs] == ["64 PEs", "DRAM: 10 words a cycle"]
    assert list(dots.x) == [layer.macs / layer.dram_words for layer in found.layers]
    assert list(dots.y) == [layer.macs / layer.total_cycles for layer in found.layers]
