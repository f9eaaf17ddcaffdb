"""A design of an exploration is an accelerator again."""

import pytest

import arraysmith
from arraysmith import Constraints, DesignSpace, Gemm, Objective, PhysicalAccelerator, Workload
from arraysmith.errors import DesignSpaceError
from arraysmith.hardware import Microarchitecture

NETWORK = Workload(
    name="net", layers=(Gemm(name="a", M=40, N=24, K=30), Gemm(name="b", M=1, N=9, K=70))
)
KINDS = (Microarchitecture.OS_SHIFT, Microarchitecture.WS_SERIAL)


def test_accelerator_takes_what_the_exploration_says():
    """Each design that is named, mapped by itself, takes the cycles, bytes and energy it has."""
    base = PhysicalAccelerator(
        rows=1, cols=1, microarchitectures=KINDS[:1], ifmap_port_bytes=2, ofmap_port_bytes=4
    )
    space = DesignSpace(
        rows=(4, 8),
        cols=(4, 6),
        arrays=((KINDS[0],), KINDS),
        ifmap_kib=(1, 2),
        filter_kib=(1,),
        ofmap_kib=(1, 3),
        dram_bytes_per_cycle=(2, 4.5),
        psum_bytes=(4, 5),
        constraints=Constraints(max_pes=32),
    )
    wanted = (Objective.CYCLES, Objective.AREA, Objective.ENERGY)
    found = arraysmith.explore(NETWORK, space, model="physical", objectives=wanted, base=base)
    designs = {*found.front, *found.facts.ranking}
    assert len(designs) >= 10
    for design in designs:
        metrics = arraysmith.map_network(NETWORK, found.accelerator(design)).metrics
        assert metrics.total_cycles == design.total_cycles
        assert metrics.dram_bytes == design.dram_bytes
        assert metrics.energy_pj == pytest.approx(design.energy_pj)
        assert metrics.area_mm2 == pytest.approx(design.area_mm2)


def test_accelerator_of_a_dataflow_is_refused():
    """SCALE-Sim does not say how an array is built."""
    found = arraysmith.explore(NETWORK, DesignSpace(rows=(8,), cols=(8,)))
    with pytest.raises(
        DesignSpaceError,
        match=r"^8×8 .. is of scalesim CALC, which does not say how the array is built; explore "
        r"with model physical$",
    ):
        found.accelerator(found.best)
