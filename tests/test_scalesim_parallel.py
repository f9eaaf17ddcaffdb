"""Several layers at a time: answers, bars, errors and interrupts as one after the other."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest

from arraysmith.errors import InvalidWorkloadError
from arraysmith.hardware import Accelerator, Dataflow, StreamBandwidths
from arraysmith.simulation.scalesim import memory, parallel
from arraysmith.simulation.scalesim.model import simulate
from arraysmith.workload import Conv2d, Gemm, Workload

ACCELERATOR = Accelerator(
    rows=8,
    cols=6,
    dataflow=Dataflow.WS,
    ifmap_buffer_kib=1,
    filter_buffer_kib=1,
    ofmap_buffer_kib=1,
)
RATES = StreamBandwidths(ifmap_words_per_cycle=7, filter_words_per_cycle=3, ofmap_words_per_cycle=5)
CONV = Conv2d(
    name="conv",
    ifmap_rows=20,
    ifmap_cols=19,
    filter_rows=3,
    filter_cols=4,
    in_channels=5,
    out_channels=9,
)
LAYERS = tuple(
    layer
    for size in (20, 30, 25)
    for layer in (
        Gemm(name=f"gemm{size}", M=size, N=40, K=50),
        replace(CONV, name=f"conv{size}", ifmap_rows=size),
        Gemm(name=f"again{size}", M=size, N=40, K=50),
    )
)
WORKLOAD = Workload(name="several", layers=LAYERS)


class Bars:
    """Bars that are written down."""

    def __init__(self):
        """None yet."""
        self.shown, self.threads, self.open = [], set(), 0

    @contextmanager
    def __call__(self, name, total):
        """One at a time."""
        self.threads.add(threading.current_thread())
        self.open += 1
        assert self.open == 1
        steps = []
        yield steps.append  # each step tells how many lines it passed
        self.open -= 1
        self.shown.append((name, total, sum(steps)))


@pytest.mark.parametrize("rates", [None, RATES])
def test_threads_change_nothing(rates, monkeypatch):
    """Metrics and bars of nine layers are those of each layer alone, in their order."""
    alone = [
        simulate(Workload(name="one", layers=(layer,)), ACCELERATOR, rates).layers[0]
        for layer in LAYERS
    ]
    bars = {}
    for workers in (1, 4):
        bars[workers] = Bars()
        monkeypatch.setattr(parallel, "WORTH_A_THREAD", 0)
        monkeypatch.setattr(parallel.os, "cpu_count", lambda workers=workers: workers)
        found = simulate(WORKLOAD, ACCELERATOR, rates, progress=bars[workers])
        assert list(found.layers) == alone
        assert bars[workers].threads == {threading.main_thread()}
    assert bars[1].shown == bars[4].shown
    assert all(total == done for _, total, done in bars[1].shown)


def test_layers_of_equal_dimensions_are_walked_once(monkeypatch):
    """Each keeps its own name; only six of the nine are different."""
    bars = Bars()
    monkeypatch.setattr(parallel, "WORTH_A_THREAD", 1 << 60)
    found = simulate(WORKLOAD, ACCELERATOR, RATES, progress=bars)
    assert [layer.name for layer in found.layers] == [layer.name for layer in LAYERS]
    assert [name for name, _, _ in bars.shown] == [
        layer.name for layer in LAYERS if not layer.name.startswith("again")
    ]


def test_the_first_failing_layer_is_named(monkeypatch):
    """Whichever thread fails first, the message is that of the first such layer."""
    monkeypatch.setattr(parallel, "WORTH_A_THREAD", 0)
    monkeypatch.setattr(parallel.os, "cpu_count", lambda: 4)
    wide = Accelerator(
        rows=4, cols=2000, dataflow=Dataflow.WS, ifmap_buffer_kib=1, filter_buffer_kib=1
    )
    layers = tuple(Gemm(name=f"wide{K}", M=4, N=4000, K=K) for K in (4, 3, 2))
    with pytest.raises(InvalidWorkloadError, match="layer 'wide4' on 4×2000 WS: half a buffer"):
        simulate(Workload(name="w", layers=layers), wide)


def test_an_interrupt_stops_all_threads(monkeypatch):
    """Ctrl-C in the main thread: no walk goes on to its end."""
    monkeypatch.setattr(parallel, "WORTH_A_THREAD", 0)
    monkeypatch.setattr(parallel.os, "cpu_count", lambda: 2)
    before, calls, go = threading.active_count(), [], threading.Event()
    real = memory.walk

    def slow(*arguments):
        calls.append(1)
        go.wait(5)
        return real(*arguments)

    def interrupted(jobs, seconds):
        del jobs, seconds
        go.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(memory, "walk", slow)
    monkeypatch.setattr(parallel, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate(WORKLOAD, ACCELERATOR, RATES)
    assert len(calls) <= 3
    assert threading.active_count() == before
