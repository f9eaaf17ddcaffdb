"""Make the shipped checkpoints from a finished run: tools/ship_checkpoint.py runs/lenet5.

The best epoch's parameters, and the last's, both as safetensors with the whole history.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from arraysmith.flow.learning import SHIPPED_CHECKPOINT, SHIPPED_LAST
from arraysmith.learning import checkpoint
from arraysmith.store import RunFolder


def main() -> None:
    """Read the run named on the command line and write both files."""
    run = RunFolder(Path(sys.argv[1]))
    last = checkpoint.load(run.model("last"))
    best = checkpoint.load(run.model("best"))
    checkpoint.save(SHIPPED_CHECKPOINT, replace(best, history=last.history))
    checkpoint.save(SHIPPED_LAST, last)


if __name__ == "__main__":
    main()
