"""A process that appends to a journal until it is killed: `python journal_writer.py FOLDER SEED`.

After each append it prints how many designs the journal has, so that the test knows what must be
there. With SEED `hold` it only holds the journal open.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from arraysmith.journal import JOURNAL, Existing, Identity, open_journal

DTYPE = np.dtype([("cycles", np.int64), ("energy_pj", np.float64), ("kept", np.bool_)])
FACTS = {"workload": "resnet50", "seed": "1"}


def identity(**facts):
    """Of the facts above, or with some of them changed."""
    return Identity.of({**FACTS, **facts}, [1, 2, 3])


def results(designs):
    """A result that can be told from the design alone."""
    made = np.zeros(designs.shape, DTYPE)
    made["cycles"], made["energy_pj"], made["kept"] = designs * 7, designs / 3, designs % 2 == 0
    return made


def write(folder, seed):
    """Append blocks of 1 to 2,000 designs without end."""
    rng = np.random.default_rng(seed)
    with open_journal(folder / JOURNAL, identity(), DTYPE, Existing.RESUME) as journal:
        done = len(journal)
        while True:
            designs = np.arange(done, done + rng.integers(1, 2000))
            journal.append(designs, results(designs))
            done += designs.size
            print(done, flush=True)  # noqa: T201


def hold(folder):
    """Hold the journal until killed."""
    with open_journal(folder / JOURNAL, identity(), DTYPE, Existing.RESUME):
        print("open", flush=True)  # noqa: T201
        time.sleep(600)


if __name__ == "__main__":
    if sys.argv[2] == "hold":
        hold(Path(sys.argv[1]))
    write(Path(sys.argv[1]), int(sys.argv[2]))
