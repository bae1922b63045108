"""Networks whose answer is no function of one image, noticed once a network.

Three things make the answer for a photograph depend on more than the photograph:

    random numbers      dropout that is left on, added noise, fractional max pooling
    state               buffers and attributes that a pass changes and the next one reads
    neighbours          batch norm without running statistics, dynamic quantization

And where a network takes its batch apart or reorders it, the maps of a layer are not those of the photographs
in their order; see `batch_rows`. The first passes of a network, which choose its memory format, are watched for all of these. Where one is
found, every later pass begins with the same seed and the same state, and sees a single photograph.
Ordinary networks run as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from convscope.errors import NotApplicableError
from convscope.network.module import CONTIGUOUS, MemoryFormats, preferred_memory_formats
from convscope.network.module_state import ModuleState, Slot, preserved
from convscope.network.random_values import RandomValues
from convscope.network.value_reads import ValueReads
from convscope.objectives.outputs import Detections
from convscope.randomness import generator_states, seeded_generators

INFINITY = float("inf")
Run = Callable[[Tensor], Tensor]
"""Input of a module -> its scores."""
ROUNDING, BATCH_ROUNDING = 16, 128
"""Rounding errors between equal scores of equal passes, and of batches of different size."""


@dataclass(frozen=True)
class Repeatability:
    """What passes need so that an answer depends on its photograph alone.

    Attributes:
        draws: the same seed at the beginning, because passes draw random numbers.
        slots: what passes change in the module, to be put back.
        counters: what passes change and never read, to be put back too: logs, numbers of passes.
        depends_on_past: whether the next answer would be another otherwise.
        alone: one photograph at a time.
        mixes: whether the images of a batch change each other's answers.
        rearranges: whether inside the network the images of a batch are not in their order.
        decides: whether Python code of the network reads values that come from the picture.
        scatter: by how much answers vary all the same, relative to their size.
        spares_scores: whether the scores do not depend on the random numbers.
    """

    draws: bool = False
    slots: tuple[Slot, ...] = ()
    counters: tuple[Slot, ...] = ()
    depends_on_past: bool = False
    alone: bool = False
    mixes: bool = False
    rearranges: bool = False
    decides: bool = False
    scatter: float = 0.0
    spares_scores: bool = False

    @property
    def is_ordinary(self) -> bool:
        """Whether passes need nothing of this."""
        return not (self.draws or self.slots or self.alone)

    @property
    def changes_nothing(self) -> bool:
        """Whether `one_pass` has nothing to do."""
        return not (self.draws or self.slots or self.counters)

    @contextmanager
    def one_pass(self, device: torch.device) -> Iterator[None]:
        """Around a pass: the same seed and state before it, generators and state put back after it."""
        with ExitStack() as stack:
            if self.draws:
                stack.enter_context(seeded_generators(device))
            stack.enter_context(preserved(self.slots, self.counters))
            yield

    def words(self, name: str) -> str:
        """What a result has to say about this; "" for a function of one image."""
        sentences = []
        if self.draws:
            scores = "which its scores do not" if self.spares_scores else "as its scores may"
            sentences.append(
                f"{name} draws random numbers in each pass, as dropout does that is left on; every "
                f"photograph ran alone and from the same seed, so what depends on them, {scores}, is "
                "one of many answers."
            )
        if self.depends_on_past:
            sentences.append(
                f"Each pass of {name} changes {_listed(self.slots)}, and so the next answer; it was "
                "put back after every pass."
            )
        if self.mixes:
            sentences.append(
                f"What {name} answers for a photograph depends on the others in its batch, as with "
                "batch norm without running statistics and dynamic quantization; every photograph "
                "ran alone."
            )
        if self.rearranges:
            sentences.append(
                f"{name} takes the photographs of a batch apart, or into another order, inside; every "
                "photograph ran alone."
            )
        if self.decides:
            sentences.append(
                f"{name} reads values of the photograph, as to choose a way by them; every photograph "
                "ran alone, and the table of layers is that of a grey picture."
            )
        if self.scatter:
            by = f" by about {self.scatter:.1%}" if self.scatter < INFINITY else ""
            sentences.append(
                f"{name} answers differently{by} when it sees a photograph again, for a reason that "
                "is not known, so this result cannot be repeated exactly."
            )
        return " ".join(sentences)


@dataclass(frozen=True)
class FirstPasses:
    """What the first passes of a network show.

    Attributes:
        memory_formats: in which it runs fastest.
        repeatability: what each pass needs.
    """

    memory_formats: MemoryFormats
    repeatability: Repeatability

    @classmethod
    def of(cls, state: ModuleState, images: Tensor, scores: Run) -> FirstPasses:
        """Run a network in eval mode on three different images.

        Args:
            state: of its module, from before any pass.
            images: as the module takes them.
            scores: the network.
        """
        run = _WatchedRun(scores)
        try:
            formats = preferred_memory_formats(run, images[:2])
        except NotApplicableError:  # no scores by which formats could be compared
            formats = CONTIGUOUS
        images = images.contiguous(memory_format=formats.several)
        return cls(formats, _examine(run, images, state))


class _WatchedRun:
    """Runs a network from the same seed each time, and sees whether it draws random numbers.

    Attributes:
        draws: whether it has drawn any.
        decides: whether it has read values that come from the picture; see `ValueReads`.
        answers: its scores of the latest pass by the number and the format of images.
        reads: what was seen of the latest pass, by the number of images.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.draws, self.decides = run, False, False
        self.answers: dict[tuple[int, bool], Tensor] = {}
        self.reads: dict[int, ValueReads] = {}

    def __call__(self, x: Tensor) -> Tensor:
        with seeded_generators(x.device):
            before = generator_states(x.device)
            reads = ValueReads(x)
            try:
                with reads:
                    scores = self.run(x)
            finally:
                self.draws |= generator_states(x.device) != before
                self.decides |= reads.detected
                self.reads[len(x)] = reads
        self.answers[_key(x)] = scores
        return scores

    def known_or_new(self, x: Tensor) -> Tensor | None:
        """The scores of a batch; None where the network does not take it."""
        if _key(x) not in self.answers:
            with suppress(Exception):
                self(x)
        return self.answers.get(_key(x))

    def rearranges(self) -> bool:
        """Whether the images of a batch do not stay in their rows, by a pass of one and of two."""
        one, two = self.reads[1], self.reads[2]
        if len(one.weighted) != len(two.weighted):  # as in a loop over the photographs
            return True
        if len(one.picked) == len(two.picked):
            picks_rows = (1, 2) in zip(one.picked, two.picked, strict=True)
        else:  # what is done to each image by itself is done twice for two
            picks_rows = two.picked.count(2) > 2 * one.picked.count(2)
        if picks_rows:
            return True
        calls = zip(one.weighted, two.weighted, strict=True)
        return not all(single.keeps_rows(pair, BATCH_ROUNDING) for single, pair in calls)


def _key(x: Tensor) -> tuple[int, bool]:
    return len(x), x.is_contiguous(memory_format=torch.channels_last)


def _examine(run: _WatchedRun, images: Tensor, state: ModuleState) -> Repeatability:
    """What a network needs, by its first passes; an ordinary network is hardly run again."""
    single = run.answers.get(_key(images[:1]))
    pair = run.known_or_new(images[:2]) if single is not None else None
    changed = state.changed()
    if single is None:  # no scores to compare
        slots = tuple(slot for slot in changed if slot.is_registered)
        counters = tuple(slot for slot in changed if slot.counts)
        state.restore(counters)
        alone = run.draws or run.decides
        return Repeatability(run.draws, slots, counters, alone=alone, decides=run.decides)
    row = None if pair is None else _first_row(pair, single)
    is_same = row is not None and _same(row, single, BATCH_ROUNDING)
    rearranges = pair is not None and run.rearranges()
    if is_same and not (changed or run.draws or run.decides or rearranges):
        return Repeatability()
    alone = run.draws or run.decides or rearranges or pair is None
    needs = Repeatability(draws=run.draws, alone=alone, rearranges=rearranges, decides=run.decides)
    if changed:
        needs = _with_state(needs, run, images, state)
    if run.draws:
        needs = replace(needs, spares_scores=_spares_scores(needs, run, images[:1]))
    needs = replace(needs, scatter=_scatter(needs, run, images))
    if needs.scatter:
        return replace(needs, alone=True)
    mixes = pair is not None and _mixes(needs, run, images)
    return replace(needs, mixes=mixes, alone=needs.alone or mixes)


def _with_state(
    needs: Repeatability, run: Run, images: Tensor, state: ModuleState
) -> Repeatability:
    """What passes change is put back: buffers in any case, attributes if the next answer reads them."""
    state.restore(state.changed())
    depends = bool(_scatter(needs, run, images))
    changed = state.changed()
    slots = tuple(slot for slot in changed if slot.is_registered or depends)
    counters = tuple(slot for slot in changed if slot.counts and slot not in slots)
    state.restore((*slots, *counters))
    return replace(needs, slots=slots, counters=counters, depends_on_past=depends)


def _scatter(needs: Repeatability, run: Run, images: Tensor) -> float:
    """By how much an image's scores are others after another image; 0 if only by rounding."""
    first, _, again = (_run_once(needs, run, images[i : i + 1]) for i in (0, 1, 0))
    if _same(first, again, BATCH_ROUNDING):
        return 0.0
    return _distance(first, again) / max(_size(first), _size(again))


def _spares_scores(needs: Repeatability, run: _WatchedRun, image: Tensor) -> bool:
    """Whether scores do not depend on random numbers, as far as can be followed and by trial."""
    with preserved(needs.slots), seeded_generators(image.device, 1):
        values = RandomValues(image.device)
        with values:
            scores = run.run(image)
        if values.reach(scores):
            return False
    with preserved(needs.slots), seeded_generators(image.device, 2):
        return torch.equal(scores, run.run(image))


def _mixes(needs: Repeatability, run: Run, images: Tensor) -> bool:
    """Whether the scores of an image are others beside another image, in batches of one size."""
    single = _run_once(needs, run, images[:1])
    beside_second = _first_row(_run_once(needs, run, images[:2]), single)
    other_pair = torch.cat([images[:1], images[2:]])  # in the same memory format
    beside_third = _first_row(_run_once(needs, run, other_pair), single)
    if beside_second is None or beside_third is None:
        return False
    return not _same(beside_second, beside_third, ROUNDING)


def _run_once(needs: Repeatability, run: Run, x: Tensor) -> Tensor:
    with needs.one_pass(x.device):
        return run(x)


def _first_row(scores: Tensor, single: Tensor) -> Tensor | None:
    """The first image's part of a batch's scores; None if it is not clear which that is."""
    if scores.dim() == single.dim() + 1:  # `squeeze` took the batch of one away
        return scores[0] if scores.shape[1:] == single.shape else None
    axes = [
        axis
        for axis in range(min(scores.dim(), single.dim()))
        if single.shape[axis] == 1 and scores.shape[axis] == 2
    ]
    return scores.narrow(axes[0], 0, 1) if axes and scores.dim() == single.dim() else None


def _same(scores: Tensor, others: Tensor, rounding: int) -> bool:
    """Whether scores differ by no more than so many rounding errors."""
    allowed = rounding * torch.finfo(scores.dtype).eps * max(_size(scores), _size(others))
    return _distance(scores, others) <= allowed


def _distance(scores: Tensor, others: Tensor) -> float:
    if isinstance(scores, Detections) and isinstance(others, Detections):
        count = min(scores.shape[1], others.shape[1])  # padded to the most of the batch
        scores, others = scores[:, :count], others[:, :count]
    return _size(scores - others) if scores.shape == others.shape else INFINITY


def _size(scores: Tensor) -> float:
    return float(scores.double().nan_to_num(0).norm())


def _listed(slots: tuple[Slot, ...]) -> str:
    """The first of what passes change, and how many more there are."""
    more = len(slots) - 1
    return slots[0].label + (f" and {more} more" if more else "")
