"""The report in a real Chromium, at two window sizes: its figures draw and answer to the mouse."""

from __future__ import annotations

import pytest
from support import EVIL, explored

import arraysmith

pytestmark = pytest.mark.browser

SIZES = [(1440, 900), (480, 800)]


@pytest.fixture(scope="module")
def full_report(run_folder):
    """The report of everything: training, quantization, simulation and exploration."""
    from arraysmith.flow.demo import _unpack_shipped
    from arraysmith.store import RunFolder

    _unpack_shipped(RunFolder(run_folder), "test")
    arraysmith.evaluate(run_folder, verify=False)
    arraysmith.compare_schemes(run_folder, training_images=100, calibration_images=100)
    workload = arraysmith.read_workload(run_folder)
    accelerator = arraysmith.Accelerator(rows=16, cols=16, dataflow=arraysmith.Dataflow.OS)
    arraysmith.simulate(workload, (accelerator,), run_folder)
    axis = tuple(range(1, 33))
    limit = arraysmith.Constraints(max_pes=256)
    space = arraysmith.DesignSpace(rows=axis, cols=axis, constraints=limit)
    arraysmith.explore(workload, space, run_folder)
    return arraysmith.report(run_folder)


def opened(browser, path, size):
    """A page with the report, and every error and every request it made."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    trouble, requests = [], []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda line: trouble.append(line.text) if line.type == "error" else None)
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_timeout(500)
    return page, trouble, requests


@pytest.mark.mnist
@pytest.mark.parametrize("size", SIZES, ids=["desktop", "phone"])
def test_all_figures_draw_in_their_place(browser, full_report, size):
    """Every figure has its marks, none is wider than its cell, nothing overflows or fails."""
    page, trouble, requests = opened(browser, full_report, size)
    assert trouble == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    figures = page.locator(".plotly-graph-div")
    # Training, quantization, simulation; the front, parallel coordinates, a map for each dataflow,
    # the layers of the best design.
    assert figures.count() == 2 + 1 + (3 + 2) + 1 + 1 + 3 + 2
    marks = "path.js-line, .bars path, .heatmaplayer image, .points path, canvas"
    for index in range(figures.count()):
        assert figures.nth(index).locator(marks).count() > 0
    wide = page.evaluate(
        "[...document.querySelectorAll('.figures > div')].filter(cell =>"
        " !cell.querySelector('.scroll') &&"
        " cell.querySelector('.main-svg').getBoundingClientRect().width > cell.clientWidth + 1"
        ").length"
    )
    assert wide == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.locator("img").evaluate("image => image.naturalWidth") > 500
    page.close()


@pytest.mark.mnist
def test_heat_map_answers_to_the_mouse(browser, full_report):
    """Hovering over a cell shows its array and its cycles, the very ones of the exploration."""
    page, _, _ = opened(browser, full_report, SIZES[0])
    figure = page.locator("#landscapes .plotly-graph-div").first
    figure.scroll_into_view_if_needed()
    box = figure.locator(".heatmaplayer image").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.8)
    text = figure.locator(".hoverlayer .hovertext").first.text_content(timeout=5000)
    array, cycles = text.split(": ")
    rows, cols = map(int, array.split("×"))
    designs = arraysmith.read_designs(full_report.parent / "designs.npz")
    place = (designs["rows"] == rows) & (designs["cols"] == cols) & (designs["dataflow"] == "os")
    assert cycles == f"{designs['total_cycles'][place].item():,} cycles"
    page.close()


def test_a_hostile_name_stays_text(browser, tmp_path):
    """A layer called like a script is shown, not run."""
    explored(output=tmp_path, name=EVIL)
    page, trouble, _ = opened(browser, arraysmith.report(tmp_path), SIZES[0])
    assert trouble == []
    assert page.title() == f"Arraysmith: {EVIL}"
    assert page.locator("h1").text_content() == EVIL
    assert page.locator("section img").count() == 0
    page.close()


def mapped_report(folder, name):
    """A report of nothing but a mapping of two layers."""
    layers = (
        arraysmith.Conv2d(
            name=name, ifmap_rows=30, ifmap_cols=30, filter_rows=3, filter_cols=3,
            in_channels=8, out_channels=12,
        ),
        arraysmith.Gemm(name="fc", M=1, N=10, K=200),
    )  # fmt: skip
    accelerator = arraysmith.PhysicalAccelerator(
        rows=4,
        cols=4,
        microarchitectures=(arraysmith.Microarchitecture.WS_DOUBLE_BUFFERED,),
        ofmap_buffer_kib=1,
    )
    arraysmith.map_network(arraysmith.Workload(name=name, layers=layers), accelerator, folder)
    return arraysmith.report(folder)


@pytest.mark.parametrize("size", SIZES, ids=["desktop", "phone"])
def test_the_physical_section_draws(browser, tmp_path, size):
    """Breakdowns, lanes and roofline have their marks, nothing overflows; nests open by a click."""
    page, trouble, requests = opened(browser, mapped_report(tmp_path, "net"), size)
    assert trouble == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    figures = page.locator("#physical-1 .plotly-graph-div")
    assert figures.count() == 2 + 2 + 1
    for index in range(figures.count()):
        assert figures.nth(index).locator(".bars path, .points path").count() > 0
        assert "model: physical" in figures.nth(index).text_content()
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    nest = page.locator("#physical-1 pre").first
    assert not nest.is_visible()
    page.locator("summary").click()
    assert nest.is_visible()
    assert "array: " in nest.text_content()
    page.close()


def test_a_hostile_name_stays_text_in_nests(browser, tmp_path):
    """In tables, nests, figures and pictures."""
    page, trouble, _ = opened(browser, mapped_report(tmp_path, EVIL), SIZES[0])
    assert trouble == []
    assert page.title() == f"Arraysmith: {EVIL}"
    assert page.locator("section h3").first.text_content() == EVIL
    assert page.locator("section img").count() == 0
    page.close()
