"""What several test modules call."""

from __future__ import annotations

import os

import pytest

import arraysmith

TEST_ALL = bool(os.environ.get("ARRAYSMITH_TEST_ALL"))


def absent(reason: str) -> None:
    """Skip, or fail where everything must be there (continuous integration)."""
    if TEST_ALL:
        pytest.fail(reason)
    pytest.skip(reason)


EVIL = "</script><img src=x onerror=\"document.title='owned'\">$x_{2}$"


def explored(rows=(1, 2, 4), cols=(3, 5), max_pes=None, output=None, name="layer"):
    """A small exploration of one layer."""
    layer = arraysmith.Gemm(name=name, M=16, N=9, K=25)
    workload = arraysmith.Workload(name=name, layers=(layer,))
    space = arraysmith.DesignSpace(
        rows=tuple(rows),
        cols=tuple(cols),
        constraints=arraysmith.Constraints(max_pes=max_pes),
    )
    accelerators = (arraysmith.Accelerator(rows=4, cols=4, dataflow=arraysmith.Dataflow.WS),)
    if output is not None:
        arraysmith.simulate(workload, accelerators, output)
    return arraysmith.explore(workload, space, output)
