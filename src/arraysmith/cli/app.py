"""The command `arraysmith` and its verbs."""

from __future__ import annotations

import sys

import click

from arraysmith.cli import (
    compare,
    explore,
    learning,
    physical,
    quantization,
    simulate,
    worked_example,
)
from arraysmith.cli.terminal import errors_in_one_line, show_any_text
from arraysmith.version import __version__


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="arraysmith")
def arraysmith_command() -> None:
    """From a trained network to the best int8 systolic array for it.

    \b
    arraysmith demo                        the whole flow on LeNet-5 and MNIST
    arraysmith quantize model.onnx --samples images.npz -o runs/model
    arraysmith simulate -t layers.csv      cycles of SCALE-Sim's topologies
    arraysmith explore -t layers.csv --rows 1:64 --cols 1:64 --dataflow os,ws,is
    """


for verb in (
    *learning.VERBS,
    *quantization.VERBS,
    *simulate.VERBS,
    *physical.VERBS,
    *explore.VERBS,
    *compare.VERBS,
    *worked_example.VERBS,
):
    arraysmith_command.add_command(verb)


def main() -> None:
    """Run the command line; click itself exits with 2 on wrong usage."""
    if sys.stdout is None:
        raise SystemExit("arraysmith: standard output is closed")
    with errors_in_one_line():
        show_any_text()
        try:
            arraysmith_command.main(standalone_mode=False, prog_name="arraysmith")
        except click.ClickException as error:
            error.show()
            raise SystemExit(error.exit_code) from error
        except click.Abort as error:
            # click hides the interrupt behind its own; what it says is kept.
            interrupt = error.__cause__
            raise KeyboardInterrupt(*(interrupt.args if interrupt else ())) from error
        sys.stdout.flush()
