"""The face of the package: complete, small, and quick to import."""

from __future__ import annotations

import json
import subprocess
import sys

import arraysmith

HEAVY = ("torch", "matplotlib", "plotly", "jinja2", "click", "rich", "safetensors", "pandas")


def loaded_after(code):
    """Which heavy modules a fresh interpreter has loaded after some code."""
    program = (
        f"import sys, json; {code}; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    run = [sys.executable, "-c", program]
    return json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)


def test_import_is_light():
    """`import arraysmith` loads none of the heavy libraries."""
    assert loaded_after("import arraysmith") == []


def test_import_compiles_nothing():
    """`import arraysmith` loads neither the compiler of inner loops nor NumPy."""
    code = "import sys, arraysmith; assert not {'numba', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_mapping_stays_light():
    """The best mappings are found without torch, plots or the command line."""
    code = (
        "import arraysmith as a;"
        "w = a.Workload(name='w', layers=(a.Gemm(name='g', M=8, N=8, K=8),));"
        "h = a.PhysicalAccelerator(rows=4, cols=4,"
        " microarchitectures=(a.Microarchitecture.WS_SERIAL,));"
        "a.simulate_physical(w, (h,), mappings=a.map_network(w, h).mappings)"
    )
    assert loaded_after(code) == []


def test_simulating_and_exploring_stays_light():
    """The hardware wing runs without torch, plots or the command line."""
    code = (
        "import arraysmith as a;"
        "w = a.Workload(name='w', layers=(a.Gemm(name='g', M=8, N=8, K=8),));"
        "a.simulate(w, (a.Accelerator(rows=4, cols=4, dataflow=a.Dataflow.OS),));"
        "a.explore(w, a.DesignSpace(rows=(1, 2), cols=(4,), arrays=((a.Dataflow.WS,),)))"
    )
    assert loaded_after(code) == []


def test_all_is_complete_and_real():
    """Every public name can be had, is listed once and nothing else is."""
    assert sorted(arraysmith.__all__) == arraysmith.__all__
    assert dir(arraysmith) == sorted(arraysmith.__all__)
    for name in arraysmith.__all__:
        assert getattr(arraysmith, name) is not None
    assert set(arraysmith._HOMES) == set(arraysmith.__all__) - {"__version__"}


def test_every_verb_has_a_function():
    """A verb of the command line is a function of the same name, but for two.

    `data` has verbs of its own, and `map` is a builtin.
    """
    from arraysmith.cli.app import arraysmith_command

    others = {"data": "fetch_mnist", "map": "map_network"}
    for verb in arraysmith_command.commands:
        assert callable(getattr(arraysmith, others.get(verb, verb)))


def test_unknown_names_are_attribute_errors():
    """As for any module."""
    assert not hasattr(arraysmith, "nothing")


def test_every_module_and_function_is_a_page_or_three():
    """No module is over 400 lines, no function over 60 (STYLE: a page you can read)."""
    import ast
    from pathlib import Path

    root = Path(arraysmith.__file__).parent
    for path in root.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, path
        if path.parent.name == "cli":  # options are a function's signature there
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = node.end_lineno - node.body[0].end_lineno
                assert body <= 60, f"{path}: {node.name}"
