"""A run is a folder: models, weights, figures, and every figure of it in one `metrics.json`.

Each verb records its facts under its own section together with the command and the versions that
made them; the report is drawn from those alone.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from arraysmith.errors import ArraysmithError, InputFileError
from arraysmith.files import json_bytes, locked, read_bytes, write_bytes
from arraysmith.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")

FORMAT = "arraysmith-run-1"
_VERSIONED = ("numpy", "torch", "matplotlib", "plotly")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What made a section: a command and the versions it ran with."""

    command: str
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where the outputs of a run lie; nothing is made before something is written."""

    path: Path

    @property
    def metrics_path(self) -> Path:
        """`metrics.json`."""
        return self.path / "metrics.json"

    @property
    def report_path(self) -> Path:
        """`report.html`."""
        return self.path / "report.html"

    @property
    def weight_folder(self) -> Path:
        """`weight/`, what hardware reads."""
        return self.path / "weight"

    def model(self, name: str) -> Path:
        """`save_model/<name>_model.pth`, name being best, last or quant."""
        return self.path / "save_model" / f"{name}_model.pth"

    @property
    def float_model(self) -> Path:
        """The float network that was quantized, as it was read."""
        return self.path / "save_model" / "float_model.safetensors"

    @property
    def onnx_folder(self) -> Path:
        """`onnx/`, what other tools read."""
        return self.path / "onnx"

    def figure(self, name: str) -> Path:
        """`figs/<name>.png`."""
        return self.path / "figs" / f"{name}.png"

    def record(
        self, section: str, facts: object, command: str, *, outdated: tuple[str, ...] = ()
    ) -> None:
        """Put the facts of one verb into `metrics.json`, beside those of the others.

        Args:
            section: the name of the verb's facts.
            facts: what came of it.
            command: what made it.
            outdated: sections that these facts make untrue; they are removed.
        """
        with locked(self.path / ".lock"):
            content = self._read()
            provenance = {**content.get("provenance", {})}
            for name in outdated:
                content.pop(name, None)
                provenance.pop(name, None)
            provenance[section] = Provenance(command=command, versions=versions())
            content |= {"format": FORMAT, section: facts, "provenance": provenance}
            write_bytes(self.metrics_path, json_bytes(content))

    def facts(self, section: str, kind: type[T]) -> T | None:
        """The recorded facts of a section, checked against their type; None if there are none.

        Raises:
            InputFileError: `metrics.json` is damaged or of another version.
        """
        content = self._read()
        if section not in content:
            return None
        try:
            return msgspec.convert(content[section], kind)
        except (msgspec.ValidationError, ArraysmithError) as error:
            raise InputFileError(
                f"{self.metrics_path}: section {section!r} is damaged ({error}); "
                "remove the file and run the verbs again"
            ) from error

    def _read(self) -> dict[str, Any]:
        if not self.metrics_path.exists():
            return {}
        try:
            content = msgspec.json.decode(read_bytes(self.metrics_path), type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError) as error:
            raise InputFileError(
                f"{self.metrics_path}: damaged ({error}); remove it and run the verbs again"
            ) from error
        if not isinstance(content.get("provenance", {}), dict):
            raise InputFileError(
                f"{self.metrics_path}: damaged (provenance is no object); remove it and run the "
                "verbs again"
            )
        if content.get("format") != FORMAT:
            raise InputFileError(
                f"{self.metrics_path}: format {content.get('format')!r}, expected {FORMAT!r}; "
                "choose another output folder with -o"
            )
        return content


def versions() -> dict[str, str]:
    """Arraysmith, Python and the libraries whose version can change a figure."""
    found = {"arraysmith": __version__, "python": platform.python_version()}
    for name in _VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
