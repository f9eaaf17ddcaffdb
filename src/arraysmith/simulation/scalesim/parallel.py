"""Several walks at a time, on the cores there are: compiled code runs without the interpreter.

Results, bars and the first error come in the order of the layers, however the walks end; Ctrl-C
stops all of them at their next step.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from arraysmith.simulation.scalesim.walk import MAX_BYTES

if TYPE_CHECKING:
    from concurrent.futures import Future

    from arraysmith.performance import LayerMetrics
    from arraysmith.progress import Progress
    from arraysmith.simulation.scalesim.walk import Walk

WORTH_A_THREAD = 200_000
"""Lines in all below which starting threads takes longer than the walks."""
SECONDS_A_LOOK = 0.1
"""How often a bar is moved."""


def run_all(walks: list[Walk], progress: Progress) -> list[LayerMetrics]:
    """The layers' metrics, in the order of the walks."""
    if sum(walk.lines for walk in walks) < WORTH_A_THREAD:
        return [_run(walk, progress) for walk in walks]
    most_bytes = max(1, *(walk.bytes for walk in walks))
    workers = min(len(walks), os.cpu_count() or 1, MAX_BYTES // most_bytes)
    if workers < 2:
        return [_run(walk, progress) for walk in walks]
    stop = threading.Event()
    with ThreadPoolExecutor(workers) as pool:
        jobs = [(walk, pool.submit(_finish, walk, stop)) for walk in walks]
        try:
            return [_show(walk, job, progress) for walk, job in jobs]
        except BaseException:  # an interrupt too: nobody waits for the others
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _run(walk: Walk, progress: Progress) -> LayerMetrics:
    """A walk in this thread."""
    with progress(walk.layer.name, walk.lines) as advance:
        for lines in walk.steps():
            advance(lines)
    return walk.metrics()


def _finish(walk: Walk, stop: threading.Event) -> LayerMetrics | None:
    """A walk in a thread of the pool; None if it was stopped."""
    for _ in walk.steps():
        if stop.is_set():
            return None
    return walk.metrics()


def _show(walk: Walk, job: Future[LayerMetrics | None], progress: Progress) -> LayerMetrics:
    """Wait for a walk and show how far it is."""
    shown = 0
    with progress(walk.layer.name, walk.lines) as advance:
        while not job.done():
            wait([job], SECONDS_A_LOOK)
            advance(walk.done - shown)
            shown = walk.done
        advance(walk.done - shown)
    found = job.result()
    if found is None:
        raise AssertionError("only an error stops a walk")
    return found
