"""The notebooks of the documentation run, and what they show is what they give."""

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 300


@dataclass(frozen=True)
class Expected:
    """What a notebook of `docs` shows."""

    name: str
    figures: int
    texts: tuple[str, ...]


NOTEBOOKS = (
    Expected("scale_shift.ipynb", 2, ("the library: (53771, 29)", "wrong integers")),
    Expected(
        "exploration.ipynb",
        6,
        (
            "together 416,520 MACs",
            "2,736 designs, proven: True",
            "best: SCALE-Sim OS, serial folds OS, pipelined WS",
        ),
    ),
)


def test_every_notebook_is_run():
    """None of the folder is forgotten here."""
    assert {each.name for each in NOTEBOOKS} == {
        path.name for path in (ROOT / "docs").glob("*.ipynb")
    }


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda each: each.name)
def expected(request):
    """Each notebook."""
    return request.param


def read(expected):
    """A notebook as it is stored."""
    return nbformat.read(ROOT / "docs" / expected.name, as_version=4)


def code_cells(notebook):
    """Its cells of code, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell):
    """All text that a cell shows; streams may come in pieces, and a figure is its size alone."""
    text = [
        output.get("text") or output.get("data", {}).get("text/plain") for output in cell.outputs
    ]
    return "".join(piece for piece in text if piece)


@pytest.fixture(scope="module")
def executed(expected, tmp_path_factory):
    """The notebook run again from the top, in a fresh kernel and a folder beside the examples."""
    notebook = copy.deepcopy(read(expected))
    folder = tmp_path_factory.mktemp("repository") / "docs"
    folder.mkdir()
    shutil.copytree(ROOT / "examples", folder.parent / "examples")
    for cell in code_cells(notebook):
        cell.outputs = []
    with pytest.MonkeyPatch.context() as patch:
        # No settings of the user's own, no history file.
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        patch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path_factory.mktemp("jupyter")))
        patch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        client = nbclient.NotebookClient(
            notebook,
            timeout=TIMEOUT_S,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute()
    return notebook


def test_notebook_runs_without_errors(executed):
    """Every cell runs, in order, and none prints a warning."""
    for cell in code_cells(executed):
        for output in cell.outputs:
            assert output.output_type in {"stream", "display_data", "execute_result"}
            assert output.get("name") != "stderr", output.text


def test_stored_text_is_what_the_notebook_gives(expected, executed):
    """All numbers shown are those of the code as it is: the notebook cannot go stale."""
    pairs = zip(code_cells(read(expected)), code_cells(executed), strict=True)
    for stored, new in pairs:
        assert printed(stored) == printed(new), stored.source
    text = "".join(printed(cell) for cell in code_cells(executed))
    for each in expected.texts:
        assert each in text


def test_notebook_is_stored_executed_and_clean(expected):
    """Figures are stored and small; nothing tells whose machine made them."""
    notebook = read(expected)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    figures = [
        output.data["image/png"]
        for cell in code_cells(notebook)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(figures) == expected.figures
    assert max(map(len, figures)) < 100_000
    shown = [cell.source for cell in notebook.cells] + [
        printed(cell) for cell in code_cells(notebook)
    ]
    text = "\n".join([*shown, str(notebook.metadata)])
    for trace in ("/home/", "/root/", "/tmp/", "/Users/", "site-packages"):  # noqa: S108
        assert trace not in text
