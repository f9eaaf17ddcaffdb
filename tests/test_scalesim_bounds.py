"""What a simulation may hold in memory, and how long large layers take."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from arraysmith.errors import InvalidWorkloadError
from arraysmith.hardware import Accelerator, Dataflow, StreamBandwidths
from arraysmith.simulation.scalesim.model import simulate
from arraysmith.workload import Conv2d, Workload

# The largest of the topologies that come with SCALE-Sim: an output layer of GNMT and one of GPT-2's
# size, and a convolution of ResNet-50 on 4K images, whose ifmap has 141 million words.
LARGE = {
    "gnmt": ('Gemm(name="gnmt", M=1632, N=36548, K=1024)', "(None, rates)"),
    "gpt2": ('Gemm(name="gpt2", M=1024, N=50257, K=768)', "(None, rates)"),
    "resnet50_4k": (
        (
            'Conv2d(name="CB2a_2", ifmap_rows=1080, ifmap_cols=2048, filter_rows=3, filter_cols=3, '
            "in_channels=64, out_channels=64)"
        ),
        "(None,)",  # USER mode takes up to a minute, and less memory
    ),
}
CHILD = """
import time
from arraysmith import Accelerator, Conv2d, Dataflow, Gemm, Workload
from arraysmith.hardware import StreamBandwidths
from arraysmith.simulation.scalesim.model import simulate

rates = StreamBandwidths(
    ifmap_words_per_cycle=10, filter_words_per_cycle=10, ofmap_words_per_cycle=10
)
start = time.monotonic()
for dataflow in Dataflow:
    array = Accelerator(rows=128, cols=128, dataflow=dataflow)
    for bandwidths in {modes}:
        simulate(Workload(name="large", layers=({layer},)), array, bandwidths)
print(time.monotonic() - start)
"""
# A process starts with the peak of the one that made it, so a small one stands in between.
LAUNCHER = """
import json, resource, subprocess, sys
finished = subprocess.run([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, check=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
peak *= 1 if sys.platform == "darwin" else 1024
print(json.dumps([float(finished.stdout), peak]))
"""


@pytest.mark.parametrize("name", LARGE)
def test_the_largest_layers_take_less_than_a_gibibyte(name):
    """Three dataflows in one process, most in both modes: peak memory, and within a minute."""
    layer, modes = LARGE[name]
    code = CHILD.replace("{layer}", layer).replace("{modes}", modes)
    finished = subprocess.run(
        [sys.executable, "-c", LAUNCHER, code],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    seconds, peak_bytes = json.loads(finished.stdout)
    assert peak_bytes < 2**30
    assert seconds < 60


@pytest.mark.parametrize("user", [False, True])
def test_a_layer_that_takes_too_much_memory_is_refused(user):
    """The message names layer, array and sizes, and the way out."""
    layer = Conv2d(
        name="vast",
        ifmap_rows=30_000,
        ifmap_cols=30_000,
        filter_rows=3,
        filter_cols=3,
        in_channels=1,
        out_channels=1,
        stride=2,
    )
    rates = StreamBandwidths(
        ifmap_words_per_cycle=10, filter_words_per_cycle=10, ofmap_words_per_cycle=10
    )
    accelerator = Accelerator(rows=8, cols=8, dataflow=Dataflow.WS)
    needed = "3,433" if user else "858"
    with pytest.raises(InvalidWorkloadError) as caught:
        simulate(Workload(name="w", layers=(layer,)), accelerator, rates if user else None)
    assert str(caught.value) == (
        "layer 'vast' on 8×8 WS: following its ifmap through its buffer takes "
        f"{needed} MiB of memory, more than 800; split the layer, or use a larger array or buffer"
    )
