"""Values of photographs that ran one by one, joined into those of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from convscope.errors import NotApplicableError
from convscope.objectives.outputs import Detections


def join_images(values: Sequence[Tensor], layer: str) -> Tensor:
    """The values of a layer for several photographs, one below the other.

    Args:
        values: of a layer, or maps made of them, (1, ...) each or more.
        layer: its name.

    Raises:
        NotApplicableError: if a network took ways with maps of different sizes for them.
    """
    first = values[0]
    if isinstance(first, Detections):
        rows = [row for value in values for row in value]
        return pad_sequence(rows, batch_first=True).as_subclass(Detections)
    others = [value for value in values if value.shape[1:] != first.shape[1:]]
    if others:
        msg = (
            f"{layer} has the shape {tuple(first.shape[1:])} for one photograph and "
            f"{tuple(others[0].shape[1:])} for another, because the network takes another way for it; "
            "look at one photograph at a time."
        )
        raise NotApplicableError(msg)
    return torch.cat(list(values))


def join_layers(each: Sequence[Mapping[str, Tensor]], layers: Sequence[str]) -> dict[str, Tensor]:
    """The same of several layers, by name, from passes of one photograph each.

    Raises:
        NotApplicableError: as `join_images`, and if a layer ran for some of them only.
    """
    for name in layers:
        rows = {len(one[name]) if name in one else None for one in each}
        if len(rows) > 1:
            raise NotApplicableError(no_run(name))
    return {name: join_images([one[name] for one in each], name) for name in layers}


def check_rows(maps: Tensor, count: int, layer: str) -> None:
    """Refuse maps that are not those of the photographs, as of a reference to which they are compared.

    Args:
        maps: with a row a photograph, if they are theirs.
        count: of photographs.
        layer: its name.

    Raises:
        NotApplicableError: if there are more or fewer.
    """
    if len(maps) != count:
        photographs = "1 photograph" if count == 1 else f"{count} photographs"
        msg = (
            f"{layer} gives {len(maps)} map{'s' * (len(maps) != 1)} for {photographs}, as where it runs "
            "last on another picture; an earlier run of the module, as name#1, may be on theirs."
        )
        raise NotApplicableError(msg)


def no_run(layer: str, photographs: str = "one of these photographs") -> str:
    """Why a layer has no value."""
    return (
        f"{layer} did not run for {photographs}, though it did in the dry pass: the network takes "
        "another path."
    )
