"""The report: facts first, then a page that is safe with any name and needs no network."""

from __future__ import annotations

import re

import numpy as np
import pytest
from support import EVIL, explored

import arraysmith
from arraysmith.errors import InputFileError
from arraysmith.flow.explored import MAX_CELLS
from arraysmith.metrics import ChangedImage, Comparison, Evaluation
from arraysmith.reporting import exploration_tables, tables


def cycles_of(found):
    """What the columns say of each design."""
    columns = found.explored.columns
    names = ("dataflow", "rows", "cols", "total_cycles")
    listed = zip(*(columns[name].tolist() for name in names), strict=True)
    return {(dataflow, row, col): cycles for dataflow, row, col, cycles in listed}


def test_landscapes_hold_each_design_in_its_place():
    """A cell is the design of its row and column; what the limit excludes is empty."""
    found = explored(max_pes=10)
    cycles = cycles_of(found)
    assert [each.dataflow for each in found.explored.landscapes] == ["os", "ws", "is"]
    for landscape in found.explored.landscapes:
        assert not landscape.thinned
        for i, row in enumerate(landscape.rows.tolist()):
            for j, col in enumerate(landscape.cols.tolist()):
                cell = landscape.values[i, j]
                assert landscape.allowed[i, j] == (row * col <= 10)
                if row * col > 10:
                    assert np.isnan(cell)
                else:
                    assert cell == landscape.bounds[i, j] == cycles[landscape.dataflow, row, col]


def test_large_landscapes_are_thinned_and_say_so():
    """A long axis keeps at most so many values, the largest among them, each in its place."""
    found = explored(rows=range(1, 301), cols=(1, 2))
    cycles = cycles_of(found)
    (first, *_) = found.explored.landscapes
    assert first.thinned
    assert len(first.rows) <= MAX_CELLS
    assert first.rows[-1] == 300
    assert first.values.tolist() == [
        [cycles["os", row, col] for col in (1, 2)] for row in first.rows.tolist()
    ]


def test_accuracy_table_says_it_all():
    """Counts, points and the McNemar p-value are in the table and its note."""
    comparison = Comparison(
        images=100, float_correct=90, int8_correct=89, changed=4, fixed=1, broken=2
    )
    facts = Evaluation(
        comparison=comparison,
        p_value=comparison.p_value,
        confusion=((1,),),
        changed_images=(ChangedImage(index=1, label=2, float_prediction=3, int8_prediction=2),),
        integers_compared=1000,
        integers_different=0,
    )
    table = tables.accuracy(facts)
    assert [row.cells for row in table.rows] == [
        ("float32", "90", "90.00 %", ""),
        ("int8, integers only", "89", "89.00 %", "-1.00 points"),
    ]
    assert table.note == (
        "4 predictions changed: 1 fixed, 2 broken, 1 wrong before and after; exact McNemar "
        "p = 1.000. NumPy and torch differ in 0 of 1,000 integers of all layers."
    )


def test_traffic_of_ranked_designs_is_said():
    """What SCALE-Sim counts for the best designs stands in the facts."""
    best = explored(rows=(8,), cols=(8,)).best
    assert best.dram_bytes == 16 * 25 + 9 * 25 + 16 * 9
    assert best.peak_dram_words_per_cycle > 0


def test_every_figure_and_table_names_its_model(tmp_path):
    """Numbers of time never stand without the model that they come from."""
    found = explored(output=tmp_path)
    assert "scalesim CALC" in exploration_tables.verdict(found.facts)
    page = arraysmith.report(tmp_path).read_text(encoding="utf-8")
    assert page.count("model: scalesim CALC") >= 8


def test_the_page_is_self_contained_and_escapes_names(tmp_path):
    """No address is loaded from, and a layer's name is text wherever it stands."""
    explored(output=tmp_path, name=EVIL)
    page = arraysmith.report(tmp_path).read_text(encoding="utf-8")
    assert EVIL not in page
    assert "<img src=x" not in page
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", own)
    assert "default-src 'none'" in page


def test_a_report_needs_its_designs(tmp_path):
    """A missing or damaged designs.npz is named."""
    explored(output=tmp_path)
    (tmp_path / "designs.npz").write_bytes(b"broken")
    with pytest.raises(InputFileError, match=r"designs\.npz: cannot be read"):
        arraysmith.report(tmp_path)


def test_damaged_facts_are_named(tmp_path):
    """A section that does not hold what it must is named with the place."""
    explored(output=tmp_path)
    path = tmp_path / "metrics.json"
    path.write_text(path.read_text().replace('"designs": 18', '"designs": "many"'))
    with pytest.raises(InputFileError) as caught:
        arraysmith.report(tmp_path)
    assert str(caught.value) == (
        f"{path}: section 'exploration' is damaged (Expected `int`, got `str` - at `$.designs`); "
        "remove the file and run the verbs again"
    )


def test_verbs_add_to_a_run(tmp_path):
    """A later verb keeps what an earlier one recorded."""
    explored(output=tmp_path)
    content = (tmp_path / "metrics.json").read_text()
    assert '"simulation"' in content
    assert '"exploration"' in content
