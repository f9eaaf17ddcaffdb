"""Names of a graph's operations, from the paths of the modules they came from."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from arraysmith.learning.torch_import.site import Recorded
    from arraysmith.networks.operations import FloatOperation

MAX_LENGTH = 100
"""Of a name without the number that makes it unique."""


def safe_name(text: str) -> str:
    """A path as a name that may be a file's; the end of a long one."""
    cleaned = re.sub(r"[^A-Za-z0-9._-]", "_", text)[-MAX_LENGTH:]
    return cleaned if re.match(r"[A-Za-z0-9_]", cleaned) else f"_{cleaned}"


def unique_name(text: str, taken: set[str]) -> str:
    """A safe name that is not taken yet, and now is."""
    name = base = safe_name(text)
    count = 0
    while name in taken:
        count += 1
        name = f"{base}_{count}"
    taken.add(name)
    return name


def reaching(recorded: Sequence[Recorded], outputs: Iterable[str]) -> list[Recorded]:
    """The operations that outputs depend on."""
    wanted = set(outputs)
    kept = []
    for each in reversed(recorded):
        if each.operation.name in wanted:
            wanted.update(each.operation.inputs)
            kept.append(each)
    return kept[::-1]


def final_names(
    recorded: Sequence[Recorded], is_leaf: Callable[[str], bool], taken: set[str]
) -> dict[str, str]:
    """Of every operation, by the name it was recorded under.

    What a module without children gives has the module's path for a name, as `layer1.0.conv1`; all
    else is called by what it does, behind the path of the module that does it.
    """
    last: dict[str, Recorded] = {each.call: each for each in recorded if is_leaf(each.module)}
    titled = [each for each in recorded if last.get(each.call) is each]
    names = {each.operation.name: unique_name(each.module, taken) for each in titled}
    for each in recorded:
        if each.operation.name not in names:
            path = f"{each.module}.{each.label}" if each.module else each.label
            names[each.operation.name] = unique_name(path, taken)
    return names


def renamed(recorded: Sequence[Recorded], names: dict[str, str]) -> tuple[FloatOperation, ...]:
    """The operations under their final names; inputs that have none keep theirs."""
    return tuple(
        replace(
            each.operation,
            name=names[each.operation.name],
            inputs=tuple(names.get(tensor, tensor) for tensor in each.operation.inputs),
        )
        for each in recorded
    )
