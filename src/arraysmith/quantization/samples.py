"""What a network is calibrated or evaluated on: named arrays, a row a sample.

From .npy and .npz files, or from a Python iterable. Reals become float32; row numbers of a table
int64. Everything is checked before it is believed, and its size before any of it is held.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from arraysmith.errors import InputFileError
from arraysmith.quantization.sample_files import read_arrays, size_refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from arraysmith.networks.graph import Input

MAX_BYTES = 1 << 32
"""Of all samples together, as they are held."""
BATCH = 100


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """As many rows in every array; valid from birth."""

    inputs: tuple[Input, ...]
    arrays: Mapping[str, NDArray[Any]]
    """(samples, *shape) by the name of the input: float32, or int64 row numbers."""

    def __post_init__(self) -> None:
        """An array an input, of its shape and type, finite, and as long as the others."""
        lengths = {len(self.arrays[each.name]) for each in self.inputs}
        if len(lengths) != 1 or lengths == {0}:
            found = ", ".join(f"{len(self.arrays[each.name])}" for each in self.inputs)
            names = ", ".join(repr(each.name) for each in self.inputs)
            raise InputFileError(f"{found} samples for {names}; give at least one, as many for all")
        for each in self.inputs:
            _check(each, self.arrays[each.name])

    def __len__(self) -> int:
        """How many samples."""
        return len(self.arrays[self.inputs[0].name])

    def batches(self, size: int = BATCH) -> Iterator[dict[str, NDArray[Any]]]:
        """All samples in order, at most `size` at a time, by the name of the input."""
        for start in range(0, len(self), size):
            yield {name: array[start : start + size] for name, array in self.arrays.items()}

    def spread(self, count: int) -> Samples:
        """At most `count` of the samples, evenly spread over all."""
        if count >= len(self):
            return self
        rows = np.arange(count) * len(self) // count
        arrays = {name: array[rows] for name, array in self.arrays.items()}
        return Samples(inputs=self.inputs, arrays=arrays)

    def check_variation(self) -> None:
        """Refuse samples that could calibrate nothing: every value the same.

        Raises:
            InputFileError: no input has two different values.
        """
        for each in self.inputs:
            array = self.arrays[each.name]
            first = array.flat[0]
            if (array != first).any():
                return
        raise InputFileError(
            f"every value of {each.name!r} is {first:g}; give samples that vary, as real data does"
        )


def read_samples(path: Path, inputs: tuple[Input, ...]) -> Samples:
    """Read samples for the inputs of a network.

    Args:
        path: an .npz of arrays by input name (for one input any name), an .npy, or a folder: of
            .npy or .npz files in the order of their names, or, for several inputs, of one folder
            of .npy files for each, by its name. Each array is one sample or a batch of them.
        inputs: of the network.

    Raises:
        InputFileError: unreadable, of another shape or type, not finite, too large, or nothing
            there; the message names the file.
    """
    parts: dict[str, list[NDArray[Any]]] = {each.name: [] for each in inputs}
    held = 0
    for file, arrays in read_arrays(path, inputs, MAX_BYTES):
        for each in inputs:
            if each.name in arrays:
                rows = _rows(str(file), each, arrays[each.name])
                held += rows.nbytes
                if held > MAX_BYTES:
                    raise size_refused(str(path), held, MAX_BYTES)
                parts[each.name].append(rows)
    return _joined(str(path), inputs, parts)


def samples_from(iterable: Iterable[Any], inputs: tuple[Input, ...]) -> Samples:
    """Samples from Python objects.

    Args:
        iterable: of arrays or tensors, or of mappings by input name, or of tuples or lists in the
            order of the inputs, which may hold more (labels, as a data loader gives them). Each is
            one sample or a batch of them. A mapping of arrays is one batch.
        inputs: of the network.

    Raises:
        InputFileError: of another shape or type, not finite, too large, or nothing there.
    """
    parts: dict[str, list[NDArray[Any]]] = {each.name: [] for each in inputs}
    held = 0
    items = (iterable,) if isinstance(iterable, Mapping) else iterable
    for number, item in enumerate(items):
        origin = f"sample {number}"
        for each, value in zip(inputs, _values(origin, item, inputs), strict=True):
            rows = _rows(origin, each, _array(origin, each, value))
            held += rows.nbytes
            if held > MAX_BYTES:
                raise size_refused("the samples", held, MAX_BYTES)
            parts[each.name].append(rows)
    return _joined("the samples", inputs, parts)


def _joined(
    origin: str, inputs: tuple[Input, ...], parts: Mapping[str, list[NDArray[Any]]]
) -> Samples:
    for each in inputs:
        if not parts[each.name]:
            raise InputFileError(f"{origin}: no samples for input {each.name!r}")
    arrays = {
        name: arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        for name, arrays in parts.items()
    }
    try:
        return Samples(inputs=inputs, arrays=arrays)
    except InputFileError as error:
        raise InputFileError(f"{origin}: {error}") from error


def _values(origin: str, item: Any, inputs: tuple[Input, ...]) -> list[Any]:  # noqa: ANN401 (anything)
    """What an item holds for each input."""
    if isinstance(item, Mapping):
        missing = [each.name for each in inputs if each.name not in item]
        if missing:
            known = ", ".join(repr(name) for name in item)
            raise InputFileError(f"{origin}: nothing for input {missing[0]!r} among {known}")
        return [item[each.name] for each in inputs]
    if isinstance(item, tuple) or (isinstance(item, list) and not _is_plain(item)):
        if len(item) < len(inputs):
            raise InputFileError(f"{origin}: {len(item)} arrays for {len(inputs)} inputs")
        return list(item[: len(inputs)])
    if len(inputs) > 1:
        raise InputFileError(
            f"{origin}: one array for {len(inputs)} inputs; give a mapping by "
            f"{', '.join(repr(each.name) for each in inputs)}"
        )
    return [item]


def _is_plain(item: list[Any]) -> bool:
    """Whether a list is itself the array: of numbers, or of lists of them."""
    return all(isinstance(each, int | float | list) for each in item)


def _array(origin: str, given: Input, value: Any) -> NDArray[Any]:  # noqa: ANN401 (anything)
    """An array of an array, a torch tensor or nested lists."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputFileError(
            f"{origin}: what is given for {given.name!r} is no array ({reason})"
        ) from error


def _rows(origin: str, given: Input, array: NDArray[Any]) -> NDArray[Any]:
    """(n, *shape) of one sample or a batch, float32 or int64."""
    allowed = "iu" if given.rows else "fiu"
    if array.dtype.kind not in allowed:
        wanted = "whole row numbers" if given.rows else "numbers"
        raise InputFileError(
            f"{origin}: {given.name!r} is {array.dtype}, needs {wanted} "
            f"(as {'int64' if given.rows else 'float32'})"
        )
    if array.shape == given.shape:
        array = array[None]
    if array.shape[1:] != given.shape or array.ndim != len(given.shape) + 1:
        raise InputFileError(
            f"{origin}: {given.name!r} has shape {array.shape}; the network takes {given.shape}, "
            f"or a batch as (n, {', '.join(map(str, given.shape))})"
        )
    with np.errstate(over="ignore"):  # beyond float32 is infinite, which is refused below
        rows = np.ascontiguousarray(array, np.int64 if given.rows else np.float32)
    try:
        _check(given, rows)
    except InputFileError as error:
        raise InputFileError(f"{origin}: {error}") from error
    return rows


def _check(given: Input, rows: NDArray[Any]) -> None:
    """Shape, finite values, row numbers that exist."""
    if rows.shape[1:] != given.shape:
        raise InputFileError(
            f"{given.name!r} has samples of shape {rows.shape[1:]}; the network takes {given.shape}"
        )
    if not prod(rows.shape):
        return
    low, high = rows.min(), rows.max()
    if given.rows and (low < 0 or high >= given.rows):
        raise InputFileError(
            f"{given.name!r} has row numbers {low}…{high}; its table has 0…{given.rows - 1}"
        )
    if not np.isfinite(low) or not np.isfinite(high):
        what = "NaN" if np.isnan(low) or np.isnan(high) else "infinite values"
        raise InputFileError(f"{given.name!r} has {what}; give finite samples")
