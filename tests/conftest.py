"""What tests share: MNIST, the shipped network as int8, and the command line as a process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from support import absent


@pytest.fixture(scope="session")
def mnist():
    """The real data set."""
    from arraysmith.errors import DataUnavailableError
    from arraysmith.learning import mnist as source

    try:
        return source.load()
    except DataUnavailableError as error:
        return absent(str(error))


@pytest.fixture(scope="session")
def run_folder(mnist, tmp_path_factory):
    """A run folder with the shipped LeNet-5 quantized by the default scheme."""
    import arraysmith

    del mnist
    folder = tmp_path_factory.mktemp("run")
    arraysmith.quantize(folder, command="test")
    return folder


@pytest.fixture
def command(tmp_path):
    """Run the command line in an empty folder; returns the finished process."""

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "arraysmith", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return run


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium of this machine."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        absent("no Chromium on this machine")
    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-background-networking",
    ]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=arguments)
        yield running
        running.close()
