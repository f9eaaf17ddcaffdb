"""The numbers of an ONNX tensor, in the file or beside it, believed only as far as they are there.

External data is read from the model's own folder alone, through no link, and no more of it than its
files hold: a tensor costs as much as was stored, not what it claims.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from arraysmith.errors import InputFileError
from arraysmith.formats.onnx_shapes import holds_data, printable
from arraysmith.workload import MAX_DIMENSION

if TYPE_CHECKING:
    from numpy.typing import NDArray

_READ = frozenset(
    {
        TensorProto.FLOAT,
        TensorProto.DOUBLE,
        TensorProto.FLOAT16,
        TensorProto.BFLOAT16,
        TensorProto.BOOL,
        TensorProto.INT8,
        TensorProto.INT16,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.UINT8,
        TensorProto.UINT16,
        TensorProto.UINT32,
        TensorProto.UINT64,
        TensorProto.INT4,
        TensorProto.UINT4,
    }
)


@dataclass(slots=True, kw_only=True)
class Store:
    """What is read beside a model: each place once, and no file more than it holds."""

    path: Path
    left: dict[Path, int] = field(default_factory=dict)
    """Bytes that have not been read, by file."""
    known: dict[tuple[Path, int, int], bytes] = field(default_factory=dict)

    @property
    def bytes_read(self) -> int:
        """Of all external data so far."""
        return sum(needed for _, _, needed in self.known)

    def array(self, name: str, tensor: TensorProto) -> NDArray[Any]:
        """A tensor's numbers.

        Raises:
            InputFileError: there is another amount of data than its shape says, none, or of a type
                that is not read; or external data that is not in the model's folder.
        """
        where = f"{self.path}: tensor {name!r}"
        holds = holds_data(self.path, name, tensor)
        if tensor.data_type not in _READ:
            kind = TensorProto.DataType.Name(tensor.data_type)
            raise InputFileError(f"{where} is of type {kind}; export the model in float32")
        if max(tensor.dims, default=0) > MAX_DIMENSION:
            raise InputFileError(
                f"{where}: a size of {max(tensor.dims):,}, needs at most {MAX_DIMENSION:,}"
            )
        shape = tuple(tensor.dims)
        if prod(shape) == 0:
            return np.zeros(shape, helper.tensor_dtype_to_np_dtype(tensor.data_type))
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor = TensorProto(
                data_type=tensor.data_type, dims=shape, raw_data=self._outside(where, tensor)
            )
        elif not holds:
            raise InputFileError(
                f"{where} of shape {list(shape[:8])} holds no numbers; export the model with its "
                "weights"
            )
        return numpy_helper.to_array(tensor)

    def _outside(self, where: str, tensor: TensorProto) -> bytes:
        """External data, of as many bytes as the shape needs."""
        says = {each.key: each.value for each in tensor.external_data}
        file = self._beside(where, says.get("location", ""))
        bits = round(8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
        if tensor.data_type in (TensorProto.INT4, TensorProto.UINT4):
            bits = 4
        needed = (prod(tensor.dims) * bits + 7) // 8
        offset, length = (
            self._whole(where, key, says.get(key, default))
            for key, default in (("offset", "0"), ("length", str(needed)))
        )
        try:
            size = file.stat().st_size
            left = self.left.setdefault(file, size)
            if length != needed or offset + needed > size:
                raise InputFileError(
                    f"{where} of shape {list(tensor.dims[:8])} needs {needed:,} bytes, it says "
                    f"{length:,} at {offset:,} of {file.name!r}, which holds {size:,}; export it "
                    "again"
                )
            place = (file, offset, needed)
            if place in self.known:
                return self.known[place]
            if needed > left:
                raise InputFileError(
                    f"{where}: the tensors in {file.name!r} overlap; export the model again"
                )
            self.left[file] = left - needed
            with file.open("rb") as stream:
                stream.seek(offset)
                self.known[place] = stream.read(needed)
        except OSError as error:
            raise InputFileError(
                f"{where}: its data file {file.name!r} cannot be read "
                f"({error.strerror or type(error).__name__})"
            ) from error
        return self.known[place]

    def _whole(self, where: str, key: str, text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise InputFileError(
                f"{where}: the {key} of its external data is {text[:40]!r}, no number of bytes"
            )
        return int(text)

    def _beside(self, where: str, location: str) -> Path:
        """The file of external data, which lies in the model's folder and is no link."""
        parts = Path(location).parts
        outside = bool(
            not parts
            or ".." in parts
            or "\0" in location
            or Path(location).is_absolute()
            or PureWindowsPath(location).anchor
        )
        file = self.path.parent
        for part in () if outside else parts:
            file /= part
            outside = outside or file.is_symlink()
        if outside:
            raise InputFileError(
                f"{where}: its data is at {printable(location)[:100]!r}, which is not in the "
                "model's folder or is a link; put it beside the model"
            )
        return file


def as_reals(where: str, array: NDArray[Any]) -> NDArray[np.float32]:
    """An array as finite float32.

    Raises:
        InputFileError: a number is not finite, or too large for float32.
    """
    # What repeats along an axis without being stored (stride 0) is looked at once.
    some = tuple(slice(0, 1) if not step else slice(None) for step in array.strides)
    with np.errstate(all="ignore"):
        reals: NDArray[np.float32] = array.astype(np.float32, copy=False)
        bad = np.argwhere(~np.isfinite(reals[some]))
    if len(bad):
        place = tuple(int(each) for each in bad[0])
        raise InputFileError(
            f"{where} holds {reals[place]} at {list(place)}; mend or train the model again"
        )
    return reals
