"""Workers of a Dask cluster that somebody else has started.

Dask itself gives the tasks of a lost worker to others and takes in workers that come later. What
is added here: a scheduler that does not answer is told within seconds, and every failure says
which address it is about.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from distributed import Client, KilledWorker, as_completed
from distributed.comm.core import connect

from arraysmith.errors import WorkersError
from arraysmith.search.workers import Packed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
R = TypeVar("R")

ANSWER_SECONDS = 5.0
"""That a scheduler has to answer, and its first worker to be there."""
_COUNT_SECONDS = 5.0


class Cluster:
    """A connection to a scheduler."""

    def __init__(self, address: str, client: Client) -> None:
        """Over a connected client."""
        self.address = address
        self._client = client
        self._jobs = 0
        self._counted = -_COUNT_SECONDS

    @property
    def jobs(self) -> int:
        """Threads of all workers; counted anew now and then, for workers come and go."""
        if time.monotonic() - self._counted >= _COUNT_SECONDS:
            with contextlib.suppress(OSError):  # then `map` tells
                self._jobs = sum(self._client.nthreads().values())
            self._counted = time.monotonic()
        return max(1, self._jobs)

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[int, R]]:
        """See `Workers.map`."""
        call = Packed.of(function)
        name = f"arraysmith-{uuid.uuid4().hex}"
        source = enumerate(tasks)
        running: dict[Any, int] = {}
        completed = as_completed(loop=self._client.loop)
        try:
            while True:
                while len(running) < 2 * self.jobs and (item := next(source, None)) is not None:
                    index, task = item
                    future = self._client.submit(call, task, key=f"{name}-{index}", pure=False)
                    running[future] = index
                    completed.add(future)
                if not running:
                    return
                future = next(completed)
                index = running.pop(future)
                result = self._result(future)
                future.release()
                yield index, result
        finally:
            for future in running:  # the scheduler forgets what nobody waits for
                future.release()

    def _result(self, future: Any) -> Any:  # noqa: ANN401 - distributed has no types
        try:
            return future.result()
        except KilledWorker as error:
            raise WorkersError(
                f"{self.address}: workers were killed again and again over the same piece of "
                "work, perhaps for want of memory; give the workers more, or fewer threads each"
            ) from error
        except (CancelledError, OSError) as error:
            if future.status == "error":  # of the function itself
                raise
            raise WorkersError(
                f"{self.address}: the connection to the scheduler was lost; see whether it still "
                "runs, then go on with --resume"
            ) from error
        except ModuleNotFoundError as error:
            raise WorkersError(
                f"{self.address}: a worker has no module {error.name!r}; install there what is "
                "installed here"
            ) from error


@contextlib.contextmanager
def cluster(address: str, *, answer_seconds: float = ANSWER_SECONDS) -> Iterator[Cluster]:
    """The workers of a scheduler.

    Args:
        address: such as `tcp://10.0.0.5:8786`.
        answer_seconds: that the scheduler has to answer, and its first worker to be there.

    Raises:
        WorkersError: no scheduler answers there, or it has no workers.
    """
    client = _connected(address, answer_seconds)
    try:
        try:
            client.wait_for_workers(1, timeout=answer_seconds)
        except TimeoutError as error:
            raise WorkersError(
                f"{address}: the scheduler has no workers; start some with: dask worker {address}"
            ) from error
        yield Cluster(address, client)
    finally:
        client.close()


def _connected(address: str, seconds: float) -> Client:
    """A client of a scheduler that answered.

    Whoever listens there but says nothing would block a client for ever, and with it all others of
    this process, for they share a lock. So somebody else asks first.
    """
    try:
        with ThreadPoolExecutor(1) as asking:  # a notebook has a loop of its own in this thread
            asking.submit(asyncio.run, _ask(address, seconds)).result()
        return Client(address, timeout=seconds, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise WorkersError(
            f"{address}: no Dask scheduler answers within {seconds:.0f} s; see the address that "
            "`dask scheduler` prints when it starts"
        ) from error
    except Exception as error:  # of any kind: addresses are parsed without checks
        raise WorkersError(
            f"{address!r}: not the address of a Dask scheduler ({error}); expected one such as "
            "tcp://10.0.0.5:8786"
        ) from error


async def _ask(address: str, seconds: float) -> None:
    """Shake hands with a scheduler."""
    comm = await asyncio.wait_for(connect(address, timeout=seconds), 2 * seconds)
    comm.abort()
