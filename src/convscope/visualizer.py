"""Two calls for activation maps and synthesis: `visualize` and `construct`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral

import torch
from torch import Tensor, nn

from convscope.attribution.pixels import deconv_strongest
from convscope.errors import ArgumentError
from convscope.images.read import Source, read
from convscope.loading.load import load
from convscope.network.network import Network
from convscope.progress import Progress, ShouldStop
from convscope.results import Findings, Pictures, recipe_for
from convscope.synthesis.presets import PRESETS
from convscope.synthesis.synthesize import synthesize
from convscope.tracing.layers import Layers
from convscope.view.maps import maps

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Layer = int | str


class Visualizer:
    """A network that shows itself with two calls.

    Pixels are standardized with the mean and the deviation of ImageNet unless others are given;
    a network that `load` knows by name keeps those of its weights.

    Attributes:
        net: the network; every function of this library takes it.

    Example:
        >>> import convscope as cs
        >>> look = cs.Visualizer("bundled")
        >>> list(look.visualize("sample:china", 3, top=2).results)
        ['photograph', 'maps', 'projections']
        >>> look.construct(3, 17, size=64, steps=8).values.shape
        torch.Size([1, 3, 64, 64])
    """

    def __init__(
        self,
        model: nn.Module | Network | str,
        device: str | torch.device | None = None,
        *,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        size: int | tuple[int, int] | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        """Take hold of a network; nothing on it is changed, but it is moved to `device`.

        Args:
            model: a module, a `Network`, or a name as `load` takes it.
            device: where to put it, as "cuda"; None leaves it.
            mean: of the training pixels in [0, 1]; None: ImageNet's, for a module.
            std: their deviation; None: ImageNet's, for a module.
            size: side of the photographs, or (height, width); None: 224 for a module.
            labels: class names.

        Raises:
            ArgumentError: if only one of `mean` and `std` is given, or any of these for a
                `Network`, which has its own.
            LoadError: if the network cannot be loaded.
        """
        if isinstance(model, Network):
            if any(given is not None for given in (mean, std, size, labels, device)):
                msg = "This network has its device, mean, deviation, size and labels; to give others, give its module: Visualizer(net.module, device, mean=..., std=..., size=..., labels=...)."
                raise ArgumentError(msg)
            self.net = model
            return
        if isinstance(model, nn.Module) and mean is None and std is None:
            mean, std = IMAGENET_MEAN, IMAGENET_STD
        self.net = load(model, mean=mean, std=std, size=size, labels=labels, device=device)

    def __repr__(self) -> str:
        """The network and its convolutions."""
        convs = [f"conv:{row.conv} - {row.shape[0]} channels" for row in self.net.layers.convs]
        return f"Visualizer({self.net!r}: {'; '.join(convs)})"

    def visualize(
        self,
        image: Source,
        layer: Layer,
        *,
        top: int = 12,
        fit: str = "squash",
    ) -> Findings:
        """Activation maps of a photograph, and what in it drives the most active channels.

        Args:
            image: a photograph as `read` takes it, also an array (H, W, 3) of bytes. Colours are
                red, green, blue: `cv2.imread` gives them the other way round, so it needs
                `cv2.cvtColor(image, cv2.COLOR_BGR2RGB)`.
            layer: a number k is the k-th convolution from 1, shown after its norm and ReLU; or
                any address, shown as it is.
            top: so many channels are projected, those with the highest mean.
            fit: "squash" changes proportions and keeps the whole photograph, "crop" the centre.

        Returns:
            "photograph" as the network takes it; "maps", all of the layer; "projections" to the
            pixels by DeconvNet (Zeiler & Fergus 2014, arXiv:1311.2901), signed, zero mid-grey.

        Raises:
            LayerNotFoundError: if there is no such layer.
            NotApplicableError: if it has no maps, or the network runs no ReLU.
        """
        address = self._seen_at(layer)
        pixels = self._read(image, fit)
        result = maps(self.net, pixels, address)
        projected = deconv_strongest(self.net, pixels, address, top=top)
        photograph = Pictures(pixels, recipe_for(self.net, "photograph"), scale="pixels")
        captioned = replace(result, captions=[f"{k}" for k in range(result.values.shape[1])])
        words = f"{address} of {self.net.name}: {result.values.shape[1]} maps; the most active channels: {', '.join(projected.captions)}"
        results = {"photograph": photograph, "maps": captioned, "projections": projected}
        return Findings(results, words)

    def construct(
        self,
        layer: Layer,
        channel: int,
        *,
        steps: int | None = None,
        blur: int = 0,
        size: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Pictures:
        """A picture made for a channel, from noise, by repeated ascent and upscaling.

        Graetz 2019, How to visualize convolutional features in 40 lines of code: twelve sizes
        from 56 to 408 pixels, twenty steps in each. With another `size` or other `steps` all steps
        are shared out among as many sizes as there then are.

        Args:
            layer: a number k is the k-th convolution from 1, before its ReLU; or any address.
            channel: from 0.
            steps: all rounds together; None: 240.
            blur: side of the squares in pixels over which the picture is averaged between
                rounds; 0 for none.
            size: side of the last round; None: 408.
            seed: of the noise.
            progress: called with steps done, all steps and what is being made.
            should_stop: asked after each step.

        Returns:
            Pictures (1, 3, size, size) in [0, 1].
        """
        if blur < 0:
            msg = f"blur must be a number of pixels, 0 for none, not {blur}."
            raise ArgumentError(msg)
        return synthesize(
            self.net,
            f"{self.net.layers.find(_address(layer)).address}:{channel}",
            preset=replace(PRESETS["upscaling"], blur=blur),
            size=size,
            steps=steps,
            seed=seed,
            progress=progress,
            should_stop=should_stop,
        )

    def _seen_at(self, layer: Layer) -> str:
        """The value of a convolution after norm and ReLU; of an address itself."""
        return layer if isinstance(layer, str) else after_relu(self.net.layers, _address(layer))

    def _read(self, image: Source, fit: str) -> Tensor:
        """Cubic, as the document has it."""
        size, ends = self.net.input_size, self.net.range_of(image)
        pixels = read(image, size, fit=fit, interpolation="bicubic", range=ends)
        return pixels.to(self.net.device)


def _address(layer: Layer) -> str:
    """A convolution by its number from 1, or any address.

    Raises:
        ArgumentError: if it is neither.
    """
    if isinstance(layer, bool) or not isinstance(layer, Integral | str):
        msg = f"layer must be the number of a convolution, as 3, or an address, as 'stage:5', not {layer!r}."
        raise ArgumentError(msg)
    return layer if isinstance(layer, str) else f"conv:{layer}"


def after_relu(layers: Layers, conv: str) -> str:
    """The address of a convolution's value after norm and ReLU, where it has one.

    Each convolution opens one stage, and each pooling another.
    """
    row = layers.find(conv)
    stages = [stage for stage in layers.stages if stage.kind != "pool"]
    if len(stages) != len(layers.convs):  # one of them is never seen by itself
        return row.address
    return f"stage:{stages[layers.convs.index(row)].stage}"
