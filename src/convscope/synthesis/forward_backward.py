"""One pass and its way back, as cheap as it can be: up to the layer, and to the pixels alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from convscope.errors import ArgumentError, NoGradientError
from convscope.execution.relu_rules import Gate, modified_relu
from convscope.network.cudnn import retry_without_cudnn
from convscope.network.gradients import CUTS, optional_gradients
from convscope.network.network import Network
from convscope.objectives.makers import Activations
from convscope.synthesis.any_size import AnySize
from convscope.synthesis.batch_objective import BatchObjective
from convscope.synthesis.transforms import Drawn

PRECISIONS = ("auto", "float32", "bfloat16")
MAX_BATCH = 32  # pictures a pass
CACHE_BYTES = 24 << 20  # bytes of the largest layer's maps in a pass
AGREEMENT_TOLERANCE = 0.05  # by how much a score in bfloat16 may miss the one in float32


def redirected_gradient(gradient: Tensor, gate: Gate) -> Tensor:
    """A way back through ReLUs that are shut for a whole picture.

    Where nothing of a picture's gradient gets through the ReLU, what would open it does; the rule
    of Lucid (Olah et al. 2017, doi:10.23915/distill.00007).
    """
    through = gate(gradient)
    some = through[..., ::7] if through.dim() > 1 else through  # mostly this tells already
    if bool(some.flatten(1).any(1).all()):
        return through
    shut = ~through.flatten(1).any(1).view(-1, *[1] * (through.dim() - 1))
    return torch.where(shut, gate.redirected_gradient(gradient), through)


def is_bfloat16_faster(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    ask = getattr(torch.cpu, "get_capabilities", dict)  # older versions of torch do not tell
    can: dict[str, bool] = ask()
    return device.type == "cpu" and bool(can.get("avx512_bf16") or can.get("amx_bf16"))


@dataclass
class ForwardBackward:
    """Scores of pictures, and what at their pixels would raise them.

    Attributes:
        net: the network.
        objective: what each picture is to please.
        precision: "float32" or "bfloat16"; "auto" takes the latter where the device gains by it,
            until a score shows that it does not do.
        batch: pictures a pass at most.
        rival_penalty: on the way up, how much of what the strongest other channel is ahead is taken off.
        sizes: the network for pictures of all sizes.
    """

    net: Network
    objective: BatchObjective
    precision: str = "auto"
    batch: int = 8
    rival_penalty: float = 0.0
    sizes: AnySize = field(init=False)
    _safe: bool | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Settle the precision."""
        self.sizes = AnySize(self.net)
        self.half = precision_options(self.net, self.precision)["precision"] == "bfloat16"

    def score_and_gradient(
        self, images: Tensor, drawn: Sequence[Drawn], *, redirect: bool, alone: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Scores (N,) and their gradient at the pixels (N, C, H, W).

        Args:
            images: pixels, (N, C, H, W).
            drawn: changes they must survive.
            redirect: lead gradients through ReLUs that are shut for a whole picture.
            alone: of the objective itself, whatever other channels do.
        """
        redirect = redirect and self._redirects(images[:1], drawn)
        rival_penalty = 0.0 if alone else self.rival_penalty
        results = [
            self._score_and_gradient(
                images[a:b], drawn, self.objective.part(a, b), rival_penalty, redirect=redirect
            )
            for a, b in self._chunks(len(images))
        ]
        return torch.cat([score for score, _ in results]), torch.cat([g for _, g in results])

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """Scores in float32 of pictures as they are, (N,)."""
        chunks = self._chunks(len(images))
        results = [
            self._score(images[a:b], self.objective.part(a, b), half=False) for a, b in chunks
        ]
        return torch.cat(results)

    def agrees(self, images: Tensor, exact: Tensor) -> bool:
        """Whether scores in the precision in use are those in float32, `exact`."""
        if not self.half:
            return True
        with torch.no_grad():
            chunks = self._chunks(len(images))
            parts = [
                self._score(images[a:b], self.objective.part(a, b), half=True) for a, b in chunks
            ]
        off = (torch.cat(parts) - exact).abs()
        return bool((off <= AGREEMENT_TOLERANCE * exact.abs().max()).all())

    @retry_without_cudnn
    def _score_and_gradient(
        self,
        images: Tensor,
        drawn: Sequence[Drawn],
        objective: BatchObjective,
        rival_penalty: float,
        *,
        redirect: bool,
    ) -> tuple[Tensor, Tensor]:
        with self.net.exclusive(), torch.inference_mode(mode=False), torch.enable_grad():
            x = images.detach().clone().requires_grad_()
            views = transformed(x, drawn)
            with modified_relu(redirected_gradient) if redirect else nullcontext():
                activations = self._acts(views, objective, half=self.half)
            score = objective.read(activations, rival_penalty)  # whose ReLUs are not the network's
            return score.detach(), _gradient(score, x, objective.label)

    def _score(self, images: Tensor, objective: BatchObjective, *, half: bool) -> Tensor:
        return objective.read(self._acts(images, objective, half=half))

    def _acts(self, images: Tensor, objective: BatchObjective, *, half: bool) -> Activations:
        with self._autocast(half=half):
            return self.sizes.run(images, objective.layers)

    def _autocast(self, *, half: bool) -> AbstractContextManager[object]:
        kind = self.net.device.type
        return torch.autocast(kind, torch.bfloat16) if half else nullcontext()

    def _redirects(self, image: Tensor, drawn: Sequence[Drawn]) -> bool:
        """Whether the network computes the same with its ReLUs rewritten; asked once."""
        if self._safe is None:
            with torch.no_grad():
                plain = self._plain(transformed(image, drawn))
                with modified_relu(redirected_gradient):
                    other = self._plain(transformed(image, drawn))
            self._safe = torch.allclose(plain, other, rtol=1e-4, atol=1e-6)
        return self._safe

    def _plain(self, image: Tensor) -> Tensor:
        acts = self._acts(image, self.objective, half=False)
        return torch.cat([value.flatten() for value in acts.values()])

    def _chunks(self, count: int) -> list[tuple[int, int]]:
        if not self.objective.per_image:
            return [(0, count)]
        return [(a, min(a + self.batch, count)) for a in range(0, count, self.batch)]


def precision_options(net: Network, precision: str) -> dict[str, str | int]:
    """For recipes: the precision in which passes begin, and how many threads share them.

    Raises:
        ArgumentError: if there is no such precision.
    """
    if precision not in PRECISIONS:
        msg = f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}."
        raise ArgumentError(msg)
    half = precision == "bfloat16" or (precision == "auto" and is_bfloat16_faster(net.device))
    result = "bfloat16" if half and net.dtype == torch.float32 else "float32"
    return {"precision": result, "threads": torch.get_num_threads()}


def batch_for(net: Network, size: tuple[int, int], views: int = 1) -> int:
    """Pictures a pass: on a processor as many as leave the largest maps in its cache.

    Args:
        net: the network.
        size: (height, width) of a picture in pixels.
        views: how often each picture is seen in a step; several views have the network's size.
    """
    usual = net.input_size[0] * net.input_size[1]
    larger = 1.0 if views > 1 else math.prod(size) / usual
    fit = net.max_batch_size() / (3 * max(1.0, larger))
    if net.device.type == "cpu":
        largest = 4 * max(math.prod(row.shape) for row in net.layers)
        fit = min(fit, CACHE_BYTES / (largest * larger))
    return max(1, min(MAX_BATCH, round(fit)) // views)


def transformed(images: Tensor, drawn: Sequence[Drawn]) -> Tensor:
    """Pictures after all changes, one after the other."""
    for change in drawn:
        images = change(images)
    return images


def _gradient(score: Tensor, pixels: Tensor, label: str) -> Tensor:
    (gradient,) = optional_gradients(score.sum(), [pixels])
    if gradient is None:
        msg = (
            f"{label!r} does not depend on the picture, or only through {CUTS}, so no picture can be made "
            "for it."
        )
        raise NoGradientError(msg)
    return gradient
