"""The report: facts first, then a page that is safe with any name and needs no network."""

from __future__ import annotations

import re

import numpy as np
import pytest
from support import EVIL, explored

import arraysmith
from arraysmith.errors import InputFileError
from arraysmith.metrics import ChangedImage, Comparison, Evaluation
from arraysmith.reporting import tables
from arraysmith.reporting.heatmap import MAX_CELLS, heat_maps


def designs(facts):
    """The columns of an exploration, computed anew one design at a time."""
    rows = [
        (row, col, dataflow, row * 1000 + col)
        for dataflow in facts.dataflows
        for row in facts.rows
        for col in facts.cols
        if facts.max_pes is None or row * col <= facts.max_pes
    ]
    names = ("rows", "cols", "dataflow", "total_cycles")
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True))}  # noqa: B905


def test_heat_maps_hold_each_design_in_its_place():
    """A cell is the design of its row and column; what the limit excludes is empty."""
    facts = explored(max_pes=10)
    for found in heat_maps(facts, designs(facts)):
        assert not found.thinned
        for i, row in enumerate(found.rows):
            for j, col in enumerate(found.cols):
                cell = found.total_cycles[i, j]
                assert np.isnan(cell) if row * col > 10 else cell == row * 1000 + col


def test_large_heat_maps_are_thinned_and_say_so():
    """A long axis keeps at most so many values, the largest among them."""
    facts = explored(rows=range(1, 301), cols=(1, 2))
    (first, *_) = heat_maps(facts, designs(facts))
    assert first.thinned
    assert len(first.rows) <= MAX_CELLS
    assert first.rows[-1] == 300
    assert np.isfinite(first.total_cycles).all()


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


def test_bandwidth_beyond_what_is_given_is_marked():
    """A design that needs more DRAM words a cycle than there are says so."""
    layer = arraysmith.Gemm(name="g", M=16, N=9, K=25)
    space = arraysmith.DesignSpace(rows=(8,), cols=(8,), dataflows=(arraysmith.Dataflow.OS,))
    accelerator = arraysmith.Accelerator(
        rows=8, cols=8, dataflow=arraysmith.Dataflow.OS, dram_words_per_cycle=0.5
    )
    facts = arraysmith.explore(
        arraysmith.Workload(name="w", layers=(layer,)), space, accelerator=accelerator
    )
    table = tables.designs("best", facts.ranking, facts)
    assert table.rows[0].cells[-1].endswith("> 0.5 given")
    assert facts.ranking[0].dram_words == 16 * 25 + 9 * 25 + 16 * 9


def test_every_figure_and_table_names_its_model(tmp_path):
    """Numbers of time never stand without the model that they come from."""
    facts = explored(output=tmp_path)
    assert "scalesim CALC" in tables.exploration_verdict(facts)
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
