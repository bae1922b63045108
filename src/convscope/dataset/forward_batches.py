"""Batches of photographs through a network, read while they pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convscope.dataset.source import Photographs
from convscope.errors import ArgumentError, ImageError, NotApplicableError, no_maps
from convscope.images.decode import collecting_notes
from convscope.images.decoding_process import Decoder
from convscope.network.join_images import join_layers
from convscope.network.module import as_float32
from convscope.network.network import Network
from convscope.objectives.makers import OUTPUT
from convscope.tracing.capture import Reader, inspect
from convscope.tracing.layers import Layers

READERS = 2  # processes that decode files while the network computes
DECODE_SECONDS = 30.0  # a photograph that takes longer is skipped
CODE = "code"


@dataclass(frozen=True)
class Batch:
    """Photographs that were read together.

    Attributes:
        pixels: (N, 3, H, W); None where none could be read.
        numbers: N, their numbers in the list.
        skipped: number -> why it could not be read.
        reduced: number -> why it was decoded at a reduced size, or clipped.
    """

    pixels: Tensor | None
    numbers: Sequence[int]
    skipped: Mapping[int, str]
    reduced: Mapping[int, str]


def batches(
    net: Network, photos: Photographs, numbers: Sequence[int], size: int
) -> Iterator[Batch]:
    """Read photographs batch by batch, the next one while the last one is worked on.

    Files are decoded in child processes, so that none of them can hold up the others for longer than
    the time limit of `decoder.Decoder`.
    """
    groups = [numbers[i : i + size] for i in range(0, len(numbers), size)]
    pool, decoder = ThreadPoolExecutor(READERS), Decoder(READERS, seconds=DECODE_SECONDS)

    def begin(group: Sequence[int]) -> dict[int, Future[_Read]]:
        return {number: pool.submit(_read, photos, net, number, decoder) for number in group}

    try:
        waiting = begin(groups[0]) if groups else {}
        for following in (*groups[1:], ()):
            ready, waiting = waiting, begin(following)
            yield _collected(ready)
    finally:
        decoder.close()
        pool.shutdown(cancel_futures=True)


_Read = tuple[Tensor, str | None]


def _read(photos: Photographs, net: Network, number: int, decoder: Decoder) -> _Read:
    """A photograph, and a note where it was decoded at a reduced size or clipped."""
    notes: list[str] = []
    pixels = photos.read(net, number, collecting_notes(decoder.decode_file, notes))
    return pixels, next(iter(notes), None)


def _collected(ready: Mapping[int, Future[_Read]]) -> Batch:
    read: dict[int, Tensor] = {}
    skipped: dict[int, str] = {}
    reduced: dict[int, str] = {}
    for number, future in ready.items():
        try:
            read[number], note = future.result()
        except ImageError as error:
            skipped[number] = str(error)
        else:
            reduced |= {number: note} if note else {}
    pixels = torch.cat(list(read.values())) if read else None
    return Batch(pixels, list(read), skipped, reduced)


def forward_with_readers(
    net: Network,
    pixels: Tensor,
    layers: Sequence[str],
    reader: Reader,
    *,
    head: nn.Module | None = None,
    whole: bool = True,
) -> None:
    """One pass in which every layer's maps are shown to `reader` as (N, C, h, w).

    Args:
        net: the network.
        pixels: (N, 3, H, W) on its device.
        layers: addresses.
        reader: given an address and its maps, which must be read at once; "code" and the input
            of `head`, (N, D); "output" and the scores, (N, K), if all weights were loaded.
        head: the last linear layer or convolution, where codes are wanted.
        whole: go on to the scores; otherwise the pass ends after the deepest layer.

    Raises:
        NotApplicableError: if a layer, or what enters the head, depends on weights that were not
            loaded, or if a layer has several values for each photograph.
    """
    net.check_weights_loaded(layers)
    if head is not None and not _is_input_loaded(net, head):
        net.check_weights_loaded()
    if len(pixels) > 1 and net.repeatability.alone:
        each = [
            _read_values(net, image, layers, head=head, whole=whole) for image in pixels.split(1)
        ]
        for name, value in join_layers(each, list(each[0])).items():
            reader(name, value)
        return

    def look(name: str, value: Tensor) -> None:
        value = value.dequantize() if value.is_quantized else value
        if name != CODE and len(value) != len(pixels):
            raise _several_values(name, value.shape[1:])
        reader(
            name,
            pooled_embedding(value, head) if name == CODE else as_maps(value, net.layers, name),
        )

    locations = {name: net.layers.location(name) for name in layers}
    inputs_of = {CODE: head} if head is not None else {}
    with net.exclusive(), torch.inference_mode():
        x = net.preprocess(pixels)
        with net.one_pass(), inspect(locations, look, inputs_of=inputs_of, stop=not whole):
            scores = as_float32(net.forward(x))
            if net.layers.all_loaded:
                reader(OUTPUT, scores)


def _is_input_loaded(net: Network, module: nn.Module) -> bool:
    if net.layers.all_loaded:
        return True
    rows = (row for row in net.layers if net.layers.location(row.name).source is module)
    return net.layers.is_input_loaded(next(rows), module)


def _read_values(
    net: Network, image: Tensor, layers: Sequence[str], *, head: nn.Module | None, whole: bool
) -> dict[str, Tensor]:
    """What a reader is shown for one photograph, (1, ...) each."""
    values: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> None:
        values[name] = value.clone()

    forward_with_readers(net, image, layers, keep, head=head, whole=whole)
    return values


def as_maps(value: Tensor, layers: Layers, layer: str) -> Tensor:
    """A layer's value as maps; what has no place becomes maps of one cell."""
    if value.dim() == 2:
        return value[:, :, None, None]
    return layers.to_nchw(value, layer)


def pooled_embedding(value: Tensor, head: nn.Module | None) -> Tensor:
    """What enters the head as one code a photograph: (N, D); maps and tokens by their mean.

    A linear head looks at the last axis, a convolution at the second.
    """
    if value.dim() == 2:
        return value.float().clone()
    if "Linear" in type(head).__name__ or isinstance(head, nn.Linear):  # quantized ones too
        return value.float().flatten(1, -2).mean(1)
    return value.float().flatten(2).mean(2)


def classifier_head(net: Network) -> nn.Module:
    """The last linear layer or convolution that the scores come from.

    Raises:
        NotApplicableError: if there is neither, or not all of the scores come from one.
    """
    row = net.layers.classifier
    if row is None:
        msg = (
            f"{net.name} ends in neither a linear layer nor a convolution, so it has no embedding."
        )
        raise NotApplicableError(msg)
    return net.module.get_submodule(row.name)


def default_layers(net: Network) -> list[str]:
    """All convolutions; in a network with norms, their values after norm and activation.

    A channel is dead or alive as what comes after it sees it, and a norm moves the 0.
    """
    normed = any(row.kind == "norm" for row in net.layers)
    convs = [row.address for row in net.layers.convs]
    stages = [f"stage:{row.stage}" for row in net.layers.stages if row.kind != "pool"]
    result = stages if normed else convs
    if not result:
        msg = f"{net.name} has no convolutions; name the layers. 'convscope layers' lists them."
        raise NotApplicableError(msg)
    return result


def resolve_layers(net: Network, layers: str | Sequence[str] | None) -> list[str]:
    """Addresses from what a person wrote: "conv:1-8", "conv:1,conv:5", a list; None: the default.

    Raises:
        LayerNotFoundError: if one of them names nothing.
        NotApplicableError: if one of them has no channels.
    """
    if layers is None:
        return default_layers(net)
    parts = layers.split(",") if isinstance(layers, str) else net.layers.as_layers(layers)
    result = [one for part in parts for one in _spread(part.strip())]
    if not result:
        msg = "No layers were selected; 'convscope layers' lists them."
        raise ArgumentError(msg)
    for address in result:
        _check_channels(net, address)
    return list(dict.fromkeys(result))


def _check_channels(net: Network, layer: str) -> None:
    """Refuse a layer whose values are neither numbers by channel nor maps of them."""
    shape = net.layers.find(layer).shape
    if len(shape) > 1 and not net.layers.is_batch_first(layer):
        raise _several_values(layer, shape)
    if len(shape) != 1 and net.layers.layout(layer) is None:
        raise NotApplicableError(no_maps(layer, (1, *shape)))


def _several_values(layer: str, shape: Sequence[int]) -> NotApplicableError:
    return NotApplicableError(
        f"{layer} runs on parts or steps of each photograph, and so has several values of shape "
        f"{tuple(shape)} for each; a survey needs one."
    )


def _spread(part: str) -> list[str]:
    """The layers that "conv:1-8" stands for.

    >>> _spread("conv:2-4"), _spread("layer4.1")
    (['conv:2', 'conv:3', 'conv:4'], ['layer4.1'])
    """
    kind, _, numbers = part.partition(":")
    first, dash, last = numbers.partition("-")
    if kind in ("conv", "stage") and dash and first.isdecimal() and last.isdecimal():
        if int(first) > int(last):
            msg = f"{part} runs backwards; write {kind}:{last}-{first}."
            raise ArgumentError(msg)
        return [f"{kind}:{k}" for k in range(int(first), int(last) + 1)]
    return [part]
