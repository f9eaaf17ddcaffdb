"""Explorations in a real Chromium, at two window sizes: what people sort, filter and point at."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from exploration_cases import made_up, simulated
from support import EVIL
from test_report_browser import SIZES, opened

from arraysmith.reporting import exploration_facts, html

pytestmark = pytest.mark.browser


def page_of(folder, facts, explored, best_design=None):
    """A report of nothing but an exploration."""
    path = folder / "report.html"
    found = html.RunFacts(exploration=facts, explored=explored, best_design=best_design)
    path.write_text(html.render(found), encoding="utf-8")
    return path


def shown_rows(page, column):
    """Numbers or words of a column, as far as rows are in view."""
    names = page.locator(".designs-names th").all_text_contents()
    place = names.index(column) + 1
    cells = page.locator(f".designs-view tbody tr[data-row] td:nth-child({place})")
    return [text.replace(",", "") for text in cells.all_text_contents()]


def wait_for_count(page, text):
    """Until so many designs are said to be shown."""
    page.wait_for_function(
        "text => document.querySelector('.designs-count').textContent === text", arg=text
    )


@pytest.mark.parametrize("size", SIZES, ids=["desktop", "phone"])
def test_an_exploration_draws_in_its_place(browser, tmp_path, size):
    """Every figure has its marks, nothing overflows or fails, nothing is loaded."""
    facts, explored = made_up(count=150)
    path = page_of(tmp_path, facts, explored, simulated())
    page, trouble, requests = opened(browser, path, size)
    assert trouble == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    figures = page.locator(".plotly-graph-div")
    assert figures.count() == 1 + 1 + 1 + 3 + 2
    marks = "path.js-line, .bars path, .heatmaplayer image, .points path, canvas"
    for index in range(figures.count()):
        assert figures.nth(index).locator(marks).count() > 0
        assert "WebGL is not" not in figures.nth(index).text_content()
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    page.close()


@pytest.mark.parametrize("size", SIZES, ids=["desktop", "phone"])
def test_the_table_sorts_and_filters(browser, tmp_path, size):
    """By a click and by the keyboard, by numbers, ranges and words; the count is right."""
    facts, explored = made_up()
    columns = explored.columns
    page, trouble, _ = opened(browser, page_of(tmp_path, facts, explored), size)
    cycles = shown_rows(page, "cycles")
    assert cycles == [str(value) for value in np.sort(columns["total_cycles"])[: len(cycles)]]
    heading = page.get_by_role("button", name="PEs", exact=True)
    heading.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert heading.locator("..").get_attribute("aria-sort") == "descending"
    pes = shown_rows(page, "PEs")
    assert pes == [str(value) for value in np.sort(columns["pes"])[::-1][: len(pes)]]
    wanted = columns["rows"] >= 16
    page.get_by_label("filter rows").fill(">=16")
    wait_for_count(page, f"{wanted.sum():,} of 400 designs")
    wanted &= (columns["cols"] >= 8) & (columns["cols"] <= 32) & (columns["cols"] != 12)
    page.get_by_label("filter columns").fill("8..32 !=12")
    wait_for_count(page, f"{wanted.sum():,} of 400 designs")
    wanted &= np.char.startswith(columns["dataflow"], "ws")
    page.get_by_label("filter kind").fill("ws")
    wait_for_count(page, f"{wanted.sum():,} of 400 designs")
    assert set(shown_rows(page, "rows")) <= {str(value) for value in columns["rows"][wanted]}
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download CSV").click()
    with open(waiting.value.path(), encoding="utf-8") as file:  # noqa: PTH123 (a path of playwright)
        rows = list(csv.DictReader(file))
    assert sorted(int(row["total_cycles"]) for row in rows) == sorted(
        columns["total_cycles"][wanted]
    )
    page.get_by_label("filter rows").fill("many")
    wait_for_count(page, f"{(wanted_without_rows(columns)).sum():,} of 400 designs")
    assert page.get_by_label("filter rows").get_attribute("aria-invalid") == "true"
    page.get_by_role("button", name="Clear filters").click()
    wait_for_count(page, "400 designs")
    assert trouble == []
    page.close()


def wanted_without_rows(columns):
    """What the filters of columns and kinds let through alone."""
    between = (columns["cols"] >= 8) & (columns["cols"] <= 32) & (columns["cols"] != 12)
    return between & np.char.startswith(columns["dataflow"], "ws")


def test_the_tooltip_says_the_whole_design(browser, tmp_path):
    """The very lines that the facts give; a click marks the row; other axes can be chosen."""
    facts, explored = made_up(count=40)
    page, trouble, _ = opened(browser, page_of(tmp_path, facts, explored), SIZES[0])
    figure = page.locator("#front-figure")
    figure.scroll_into_view_if_needed()
    page.evaluate("document.getElementById('front-figure').scrollIntoView({block: 'center'})")
    point = figure.locator(".scatterlayer .trace").nth(1).locator(".points path").nth(1)
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#designs-tooltip:not([hidden])")
    found = exploration_facts.shown(facts, explored)
    row = np.flatnonzero(found.front)
    row = row[np.argsort(found.columns["total_cycles"][row])][1]
    said = {name: column[row].item() for name, column in found.columns.items()}
    assert page.locator("#designs-tooltip").text_content().split("\n") == exploration_facts.lines(
        said, found.quantities
    )
    page.mouse.down()
    page.mouse.up()
    selected = page.locator(".designs-view tr[aria-selected=true]")
    selected.wait_for()
    assert selected.get_attribute("data-row") == str(row)
    page.locator("#designs-x").select_option("area_mm2")
    assert figure.locator(".xtitle").text_content() == "area (mm²)"
    assert trouble == []
    page.close()


@pytest.mark.parametrize("size", SIZES, ids=["desktop", "phone"])
def test_a_front_of_100000_points_is_usable(browser, tmp_path, size):
    """It is drawn whole, sorted, filtered and scrolled to its end with few elements."""
    count = 100_000
    facts, explored = made_up(count=count, all_front=True)
    path = page_of(tmp_path, facts, explored)
    assert path.stat().st_size < 15e6
    page, trouble, _ = opened(browser, path, size)
    wait_for_count(page, "100,000 designs")
    drawn = "document.getElementById('front-figure').data[1].x.length"
    assert page.evaluate(drawn) == count
    kept = int((explored.columns["rows"] >= 64).sum())
    page.get_by_label("filter rows").fill(">=64")
    wait_for_count(page, f"{kept:,} of 100,000 designs")
    page.wait_for_function(f"{drawn} === {kept}")
    page.get_by_role("button", name="Clear filters").click()
    page.get_by_role("button", name="energy (µJ)").click()
    energies = np.sort(explored.columns["energy_pj"])
    assert shown_rows(page, "energy (µJ)")[0] == exploration_facts.digits(energies[0] / 1e6)
    page.evaluate("document.querySelector('.designs-view').scrollTop = 1e9")
    last = exploration_facts.digits(energies[-1] / 1e6)
    page.wait_for_function(
        "text => [...document.querySelectorAll('.designs-view tr[data-row]')].at(-1)"
        ".textContent.includes(text)",
        arg=last,
    )
    assert page.locator(".designs-view tbody tr").count() < 60
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert trouble == []
    page.close()


def test_hostile_names_stay_text_in_an_exploration(browser, tmp_path):
    """As a workload, a layer and a kind of array."""
    facts, explored = made_up(workload=EVIL, count=60)
    columns = dict(explored.columns)
    columns["dataflow"] = np.where(columns["rows"] > 16, EVIL, columns["dataflow"])
    explored = type(explored)(columns=columns, landscapes=explored.landscapes)
    path = page_of(tmp_path, facts, explored, simulated(EVIL, names=(EVIL, "b")))
    page, trouble, _ = opened(browser, path, SIZES[0])
    assert trouble == []
    assert page.title() == f"Arraysmith: {EVIL}"
    assert EVIL in shown_rows(page, "kind")
    assert page.locator("section img").count() == 0
    page.close()
