"""Every kind of method on random small networks, against slow twins in plain torch, in float64.

    python benchmarks/fuzz.py [--seeds 1000] [--first 0]

Each seed makes a network of branches, residual sums, in-place, functional and shared ReLUs, grouped,
dilated, transposed and unpadded convolutions, uneven and ceil-mode poolings, up-sampling, norms of all
kinds, squeeze-and-excitation, modules that run twice and nested outputs. Where a seed fails, steps are
taken out of its network while it still fails, and the smallest one is printed.
"""

from __future__ import annotations

import argparse
import random
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import convscope as cs
from convscope.errors import ConvscopeError
from convscope.tracing.receptive_field import pixel_box

SIDE = (22, 26)
CLASSES = 4
TOLERANCE = 1e-5  # maps are float32; everything before is float64

Relu = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Step:
    """One step of a network.

    Attributes:
        kind: a key of `STEPS`.
        options: what was drawn for it.
    """

    kind: str
    options: tuple[Any, ...] = ()


class Block(nn.Module):
    """One step; `relu` is handed in, so that a twin can change it."""

    def __init__(self, step: Step, channels: int, shared: nn.ReLU) -> None:
        super().__init__()
        self.step, self.shared = step, shared
        self.parts = nn.ModuleList(PARTS[step.kind](channels, *step.options))

    def forward(self, x: Tensor, relu: Relu) -> Tensor:
        """The step's result."""
        return STEPS[self.step.kind](self, x, relu)


def _conv(channels: int, size: int, stride: int, padding: int, dilation: int, groups: int) -> Any:
    return [nn.Conv2d(channels, channels, size, stride, padding, dilation, groups)]


def _pool(_channels: int, kind: str, size: int, stride: int, ceil: bool) -> Any:  # noqa: FBT001
    make = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}[kind]
    return [make((size, size + 1), stride, ceil_mode=ceil)]


def _norm(channels: int, kind: str) -> Any:
    norms: dict[str, Callable[[], nn.Module]] = {
        "batch": lambda: nn.BatchNorm2d(channels),
        "group": lambda: nn.GroupNorm(2, channels),
        "instance": lambda: nn.InstanceNorm2d(channels, affine=True),
        "layer": lambda: nn.GroupNorm(1, channels),
    }
    return [norms[kind]()]


PARTS: dict[str, Callable[..., Any]] = {
    "conv": _conv,
    "relu": lambda _channels, _how: [],
    "pool": _pool,
    "norm": _norm,
    "upsample": lambda _channels, mode: [nn.Upsample(scale_factor=2, mode=mode)],
    "transposed": lambda c, size, stride: [nn.ConvTranspose2d(c, c, size, stride, padding=1)],
    "residual": lambda c: [nn.Conv2d(c, c, 3, padding=1)],
    "branches": lambda c: [nn.Conv2d(c, c // 2, 1), nn.Conv2d(c, c - c // 2, 3, padding=1)],
    "excitation": lambda c: [nn.Conv2d(c, 2, 1), nn.Conv2d(2, c, 1)],
    "twice": lambda c: [nn.Conv2d(c, c, 3, padding=1)],
}


def _relu(block: Block, x: Tensor, relu: Relu) -> Tensor:
    how = block.step.options[0]
    if relu is not F.relu:
        return relu(x)
    if how == "module":
        return block.shared(x)  # type: ignore[no-any-return]
    return F.relu(x.clone(), inplace=True) if how == "inplace" else x.relu()


def _residual(block: Block, x: Tensor, relu: Relu) -> Tensor:
    y = block.parts[0](x)
    y += x
    return relu(y)


def _excitation(block: Block, x: Tensor, relu: Relu) -> Tensor:
    gate = block.parts[1](relu(block.parts[0](x.mean((2, 3), keepdim=True)))).sigmoid()
    return x * gate


STEPS: dict[str, Callable[[Block, Tensor, Relu], Tensor]] = {
    **dict.fromkeys(
        ("conv", "pool", "norm", "upsample", "transposed"), lambda block, x, _: block.parts[0](x)
    ),
    "relu": _relu,
    "residual": _residual,
    "branches": lambda block, x, relu: torch.cat([relu(part(x)) for part in block.parts], 1),
    "excitation": _excitation,
    "twice": lambda block, x, relu: block.parts[0](relu(block.parts[0](x))),
}


class RandomNetwork(nn.Module):
    """The network of some steps.

    Attributes:
        relu: what stands for a ReLU; a twin sets it.
    """

    def __init__(self, steps: Sequence[Step], *, nested: bool, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        channels, shared = 4, nn.ReLU()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.ModuleList(Block(step, channels, shared) for step in steps)
        self.last, self.head = nn.Conv2d(channels, channels, 1), nn.Linear(channels, CLASSES)
        self.nested, self.relu = nested, F.relu
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
        self.double().eval()

    def forward(self, x: Tensor) -> Any:
        """Scores, in a dictionary and a list where outputs are nested."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, self.relu)
        x = self.relu(self.last(x))
        scores = self.head(x.mean((2, 3)))
        return {"out": [scores]} if self.nested else scores

    def scores(self, x: Tensor) -> Tensor:
        """The scores, however nested."""
        output = self(x)
        return output["out"][0] if self.nested else output  # type: ignore[no-any-return]


def draw(seed: int) -> tuple[list[Step], bool]:
    """Steps of a random network, and whether its output is nested."""
    choice = random.Random(seed)  # noqa: S311
    steps = []
    for _ in range(choice.randint(2, 7)):
        kind = choice.choice(list(STEPS))
        options: tuple[Any, ...] = {
            "conv": lambda: (
                choice.choice([1, 2, 3, 5]),
                choice.choice([1, 1, 2]),
                choice.choice([0, 1, 2]),
                choice.choice([1, 1, 2]),
                choice.choice([1, 2, 4]),
            ),
            "relu": lambda: (choice.choice(["module", "function", "inplace"]),),
            "pool": lambda: (choice.choice(["max", "avg"]), choice.choice([1, 2, 3]), 2),
            "norm": lambda: (choice.choice(["batch", "group", "instance", "layer"]),),
            "upsample": lambda: (choice.choice(["nearest", "bilinear"]),),
            "transposed": lambda: (choice.choice([3, 4]), choice.choice([1, 2])),
        }.get(kind, tuple)()
        ceil = (
            choice.random() < 0.5
        )  # drawn for every step, so that taking one out changes no other
        steps.append(Step(kind, (*options, ceil) if kind == "pool" else options))
    return steps, choice.random() < 0.3


class _Guided(torch.autograd.Function):
    """ReLU whose gradient is passed on where it and the input are positive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient.clamp(min=0) * (ctx.saved_tensors[0] > 0)


class _Deconv(torch.autograd.Function):
    """ReLU whose gradient is rectified, whatever the input was."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient.clamp(min=0)


def _pixel_gradient(module: RandomNetwork, images: Tensor, c: int, relu: Relu = F.relu) -> Tensor:
    x = images.double().contiguous(memory_format=torch.channels_last).requires_grad_()
    module.relu = relu  # where maxima tie, as at zeros, the memory format decides which is taken
    try:
        (gradient,) = torch.autograd.grad(module.scores(x)[:, c].sum(), x)
    finally:
        module.relu = F.relu
    return gradient


def _compare(name: str, found: Tensor | None, expected: Tensor, rounding: float = 0) -> list[str]:
    if found is None or found.shape != expected.shape:
        shape = None if found is None else tuple(found.shape)
        return [f"{name}: shape {shape}, expected {tuple(expected.shape)}"]
    scale, error = float(expected.abs().max()), float((found - expected).abs().max())
    if error <= TOLERANCE * max(scale, 1e-6) + rounding:
        return []
    return [f"{name}: off by {error / scale:.1e}"]


def faults(steps: Sequence[Step], *, nested: bool, seed: int) -> list[str]:
    """What is wrong on one network, in words; none where it cannot run on pictures of `SIDE`."""
    module = RandomNetwork(steps, nested=nested, seed=seed)
    images = torch.rand(2, 3, *SIDE, generator=torch.Generator().manual_seed(seed))
    try:
        scores = module.scores(images.double()).detach()
    except RuntimeError:  # a kernel larger than what is left of the picture
        return []
    weights = [value.clone() for value in module.state_dict().values()]
    generator = torch.get_rng_state()
    options = {"output": lambda out: out["out"][0]} if nested else {}
    net = cs.Network(module, input_size=SIDE, **options)
    c = seed % CLASSES
    found = [
        *_compare("scores", net.score(cs.logit(c), images), scores[:, c].float()),
        *_gradients(net, module, images, c),
        *_layers(net, module, images, c),
        *_occlusion(net, module, images, c),
        *_fields(net, module),
    ]
    after = list(module.state_dict().values())
    if any(not torch.equal(a, b) for a, b in zip(weights, after, strict=True)):
        found.append("the weights changed")
    if any(part.training for part in module.modules()):
        found.append("the network is in training mode")
    if not torch.equal(generator, torch.get_rng_state()):
        found.append("the global generator moved")
    return found


def _gradients(net: cs.Network, module: RandomNetwork, images: Tensor, c: int) -> list[str]:
    plain = _pixel_gradient(module, images, c)
    twins = {
        "gradient": plain,
        "inputxgradient": plain * images,
        "guided": _pixel_gradient(module, images, c, _Guided.apply),
        "deconvnet": _pixel_gradient(module, images, c, _Deconv.apply),
    }
    found: list[str] = []
    for method, expected in twins.items():
        result = cs.saliency(net, images, c, method=method)
        found += _compare(method, result.projection, expected.float())
    one = cs.saliency(net, images[1:], c)
    return found + _compare("gradient of one image alone", one.projection, plain[1:].float())


def _append_to(values: list[Tensor]) -> Callable[..., None]:
    """A forward hook that keeps outputs."""
    return lambda _module, _inputs, output: values.append(output)


def _layers(net: cs.Network, module: RandomNetwork, images: Tensor, c: int) -> list[str]:
    """Grad-CAM and LayerCAM before the pooling and at the stem."""
    found: list[str] = []
    for address, place in (("conv:1", module.stem), (net.layers.default.name, None)):
        held: list[Tensor] = []
        handle = (place or module.last).register_forward_hook(_append_to(held))
        try:
            scores = module.scores(images.double())
        finally:
            handle.remove()
        value = held[-1]
        (gradient,) = torch.autograd.grad(scores[:, c].sum(), [value], retain_graph=True)
        if place is None:  # the default layer is the ReLU behind the last convolution
            value = value.relu()
            (gradient,) = torch.autograd.grad(module.head(value.mean((2, 3)))[:, c].sum(), [value])
        a, g = value.detach(), gradient
        twins = {
            "gradcam": (g.mean((2, 3), keepdim=True) * a).sum(1),
            "layercam": (g.relu() * a).sum(1),
        }
        terms = (g.abs().mean((2, 3), keepdim=True) * a.abs()).sum(1)
        rounding = 32 * torch.finfo(torch.float32).eps * terms.amax((1, 2))
        for method, expected in twins.items():
            values = cs.cam(net, images, c, method=method, layer=address).values
            # Where its terms cancel up to rounding, a map may be zero, as docs/methods.md says.
            is_zero = ~values.any((1, 2)) & (expected.abs().amax((1, 2)) <= rounding)
            allowed = torch.where(is_zero[:, None, None], 0.0, expected).float()
            found += _compare(f"{method} at {address}", values, allowed)
    return found


def _occlusion(net: cs.Network, module: RandomNetwork, images: Tensor, c: int) -> list[str]:
    window = 8
    heat = cs.occlusion(net, images, c, window=window, stride=window, fill="black").values
    drops, counts = torch.zeros(2, *SIDE).double(), torch.zeros(SIDE).double()
    rows, columns = (range(0, side, window) for side in SIDE)  # the last cross the border
    with torch.no_grad():
        clean = module.scores(images.double())[:, c]
        for top in rows:
            for left in columns:
                covered = images.double().clone()
                covered[:, :, top : top + window, left : left + window] = 0
                drop = clean - module.scores(covered)[:, c]
                drops[:, top : top + window, left : left + window] += drop[:, None, None]
                counts[top : top + window, left : left + window] += 1
    rounding = (
        40 * torch.finfo(torch.float32).eps * float(clean.abs().max())
    )  # smaller drops are zero
    return _compare("occlusion", heat, (drops / counts).float(), rounding)


def _fields(net: cs.Network, module: RandomNetwork) -> list[str]:
    """No gradient of a cell of the last convolution leaves its receptive field."""
    row = net.layers.convs[-1]
    field = net.layers.field(row.name)
    held: list[Tensor] = []
    handle = module.last.register_forward_hook(_append_to(held))
    x = torch.rand(1, 3, *SIDE, generator=torch.Generator().manual_seed(0)).double()
    try:
        module(x.requires_grad_())
    finally:
        handle.remove()
    if field is None:
        return ["the last convolution has no receptive field"]
    height, width = held[0].shape[-2:]
    for i, j in ((0, 0), (height // 2, width // 2), (height - 1, width - 1)):
        (gradient,) = torch.autograd.grad(held[0][0, :, i, j].sum(), x, retain_graph=True)
        seen = gradient[0].abs().sum(0) > 0
        top, left, bottom, right = pixel_box(field, i, j, *SIDE)
        seen[top:bottom, left:right] = False
        if bool(seen.any()):
            return [f"cell {i}, {j} sees pixels outside ({top}, {left}, {bottom}, {right})"]
    return []


def check(steps: Sequence[Step], *, nested: bool, seed: int) -> list[str]:
    """Faults, and refusals and tracebacks as faults."""
    try:
        return faults(steps, nested=nested, seed=seed)
    except ConvscopeError as error:
        return [f"refused: {error}"]
    except Exception as error:  # noqa: BLE001 - what this script looks for
        return [f"{type(error).__name__}: {error}"]


def smallest(steps: list[Step], *, nested: bool, seed: int) -> tuple[list[Step], bool]:
    """A failing network from which no step can be taken without its passing."""
    if nested and check(steps, nested=False, seed=seed):
        nested = False
    k = 0
    while k < len(steps):
        fewer = steps[:k] + steps[k + 1 :]
        if check(fewer, nested=nested, seed=seed):
            steps, k = fewer, 0
        else:
            k += 1
    return steps, nested


def main() -> None:
    """Try the seeds; exit with 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    failed = 0
    for seed in range(options.first, options.first + options.seeds):
        steps, nested = draw(seed)
        if found := check(steps, nested=nested, seed=seed):
            failed += 1
            least, nested = smallest(steps, nested=nested, seed=seed)
            print(f"seed {seed}: {found}\n  smallest: {least}, nested {nested}", flush=True)
            print(f"  there: {check(least, nested=nested, seed=seed)}", flush=True)
    print(f"{options.seeds} networks, {failed} with a fault")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
