"""One tree of errors: everything a user can mend is an `ArraysmithError`.

A message names the thing, its value and the way out. The command line prints it in one line and
exits with 1; anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations


class ArraysmithError(Exception):
    """The base of every error Arraysmith raises on purpose."""


class InputFileError(ArraysmithError):
    """A file that was read is missing, damaged or not what it should be."""


class OutputError(ArraysmithError):
    """A result could not be written; what was there before is untouched."""


class DataUnavailableError(ArraysmithError):
    """A data set is neither on this machine nor to be fetched."""


class InvalidNetworkError(ArraysmithError):
    """A network, a layer or its parameters do not fit together."""


class InvalidHardwareError(ArraysmithError):
    """An accelerator that cannot exist, or that a model does not cover."""


class InvalidWorkloadError(ArraysmithError):
    """A layer whose dimensions cannot be."""


class InvalidMappingError(ArraysmithError):
    """A mapping that cannot be, or that does not fit its layer or its buffers."""


class DesignSpaceError(ArraysmithError):
    """A design space that is empty, or that its constraints empty."""


class MissingExtraError(ArraysmithError):
    """An optional dependency is not installed."""


class WorkersError(ArraysmithError):
    """Parallel workers cannot be reached, were killed, or are not what they should be."""
