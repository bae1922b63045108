"""Every method on about 250 networks of torchvision and timm, each in a process of its own.

    python benchmarks/zoo.py --state zoo.jsonl [--only timm] [--seconds 60]

Networks have random weights. What can be checked is checked against plain torch: activations against
forward hooks, Grad-CAM and pixel gradients against autograd, occlusion against a loop, the module and
the random generator against what they were. Numbers that differ in float32 are compared in double
precision, and count as wrong only if they differ there too. A step that takes long is interrupted,
which must leave the network untouched as well. A line a network is added to the state; a run that
was ended goes on from there. The report counts tracebacks, wrong numbers and refusals, and prints each.
"""

from __future__ import annotations

import argparse
import csv
import json
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn

import convscope as cs
from convscope.errors import ConvscopeError
from networks import enliven, make, names

TOLERANCE = 2e-3  # of the largest value, in float32, at networks of a hundred layers
STEP_SECONDS = 5.0
Step = Callable[["Subject"], str | None]


class Late(BaseException):
    """A step has taken its time; like KeyboardInterrupt, nothing that is called catches it."""


class Subject:
    """A network under test, one photograph and a class; in double precision where that is asked."""

    def __init__(self, address: str, *, double: bool = False) -> None:
        self.address = address
        row = _default_layers().get(address)
        self.module, side = make(address, int(row["side"]) if row else None)
        generator = torch.Generator().manual_seed(1)
        self.image = torch.rand(1, 3, side, side, generator=generator)
        is_detector = address.startswith("detection")
        if not is_detector:
            enliven(self.module, torch.rand(4, 3, side, side, generator=generator))
        if double:
            self.module, self.image = self.module.double(), self.image.double()
        self.net = cs.Network(self.module, input_size=(side, side))
        self.objective: cs.Objective | int | None = None if is_detector else 3
        if address.startswith("segmentation"):
            with torch.no_grad():
                classes = self.module(self.net.preprocess(self.image))["out"].argmax(1)
            self.objective = cs.segment(int(classes.mode().values.mode().values))
        self.before = _state(self.module)


def _state(module: nn.Module) -> dict[str, object]:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "hooks": [len(getattr(m, kind)) for m in module.modules() for kind in hooks],
        "modes": [m.training for m in module.modules()],
        "flags": [weight.requires_grad for weight in module.parameters()],
        "weights": [(k, v.clone()) for k, v in module.state_dict().items() if torch.is_tensor(v)],
        "generator": torch.get_rng_state(),
    }


@cache
def _default_layers() -> dict[str, dict[str, str]]:
    table = Path(__file__).parents[1] / "tests" / "tracing" / "default_layers.csv"
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    return {row["network"]: row for row in rows}


def _difference(found: Tensor, expected: Tensor) -> str | None:
    """What is wrong, in words; None if nothing is."""
    if found.shape != expected.shape:
        return f"shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    scale = float(expected.abs().max())
    error = float((found - expected).abs().max())
    if not error <= TOLERANCE * scale + 1e-12:
        return f"off by {error / (scale or 1):.1e} of the largest value"
    return None


def check_table(subject: Subject) -> str | None:
    """The table of layers can be drawn."""
    cs.layer_table(subject.net)
    return None


def check_default_layer(subject: Subject) -> str | None:
    """The default layer is that of the table, for networks that are in it."""
    name = subject.net.layers.default.name
    row = _default_layers().get(subject.address)
    return None if row is None or name == row["layer"] else f"{name}, expected {row['layer']}"


def check_filters(subject: Subject) -> str | None:
    """The first filters are the first convolution's weights."""
    cs.filters(subject.net)
    return None


def check_prediction(subject: Subject) -> str | None:
    """Classes are ranked by the scores of a plain pass."""
    table = cs.predict(subject.net, subject.image)
    with torch.no_grad():
        scores = subject.net.module(subject.net.preprocess(subject.image))
    if not isinstance(scores, Tensor) or scores.dim() != 2 or scores.shape[1] < 2:
        return None
    best = int(scores[0].argmax())
    if int(table.rows[0][1] or 0) != best:
        return f"class {table.rows[0][1]} is first; a plain pass says {best}"
    return None


def check_rows(subject: Subject) -> str | None:
    """All rows of the table at once equal plain forward hooks."""
    net, modules = subject.net, dict(subject.module.named_modules())
    addresses = [row.name for row in net.layers if row.name in modules]
    found = net.activations(subject.image, addresses)
    plain: dict[str, list[Tensor]] = {name: [] for name in addresses}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                plain[name].append(output.clone())

        return hook

    handles = [modules[name].register_forward_hook(keep(name)) for name in addresses]
    try:
        with torch.no_grad():
            subject.module(net.preprocess(subject.image))
    finally:
        for handle in handles:
            handle.remove()
    for name, runs in plain.items():
        if len(runs) == 1 and (wrong := _difference(found[name], runs[0].float())):
            return f"{name}: {wrong}"
    return None


def check_gradcam(subject: Subject) -> str | None:
    """Grad-CAM at the default layer, against autograd on plain hooks."""
    net, row = subject.net, subject.net.layers.default
    found = cs.cam(net, subject.image, subject.objective).values
    inner = dict(subject.module.named_modules()).get(row.name)
    layout = net.layers.layout(row.name)
    if inner is None or layout is None or layout[0] != "NCHW" or subject.objective is None:
        return None
    held: list[Tensor] = []

    def hold(_module: nn.Module, _inputs: object, output: object) -> Tensor | None:
        if not isinstance(output, Tensor):
            return None
        held.append(output.clone())
        return held[-1]

    handle = inner.register_forward_hook(hold)
    try:
        with torch.enable_grad():
            scores = subject.module(net.preprocess(subject.image).requires_grad_())
    finally:
        handle.remove()
    if len(held) != 1 or not isinstance(scores, Tensor) or scores.dim() != 2:
        return None
    (gradient,) = torch.autograd.grad(scores[0, 3], held)
    expected = (gradient.mean((2, 3), keepdim=True) * held[0]).sum(1).detach()
    return _difference(found, expected.float())


def _runs(name: str, **options: object) -> Step:
    """A step that checks a map's shape and that its values are finite."""

    def step(subject: Subject) -> str | None:
        method = getattr(cs, name)
        result = method(subject.net, subject.image, subject.objective, **options)
        values = result.values if isinstance(result.values, list) else [result.values]
        for value in values:
            if len(value) != 1:
                return f"{len(value)} maps for one photograph"
            if not bool(value.isfinite().all()):
                return "values that are not finite"
        return None

    return step


def check_gradient(subject: Subject) -> str | None:
    """The gradient at the pixels, against autograd.

    Autograd is given two photographs: of one alone it is wrong behind some batch norms.
    """
    found = cs.saliency(subject.net, subject.image, subject.objective).projection
    x = torch.cat([subject.image, subject.image.flip(3)]).requires_grad_()
    scores = subject.module(subject.net.preprocess(x))
    if not isinstance(scores, Tensor) or scores.dim() != 2 or found is None:
        return None
    (gradient,) = torch.autograd.grad(scores[0, 3], x)
    return _difference(found, gradient[:1])


def check_occlusion(subject: Subject) -> str | None:
    """Drops under four windows, against one pass a window.

    Covering half of a photograph makes some random networks chaotic: plain torch gives other scores
    in a batch of two. So a drop may be off by as much as two plain passes differ.
    """
    net, image, side = subject.net, subject.image, subject.image.shape[-1]
    half = side // 2
    if subject.objective is None:
        return None
    objective = subject.objective
    found = cs.occlusion(net, image, objective, window=half, stride=half, fill="black").values[0]
    expected, spread = torch.zeros(side, side), 0.0
    with torch.no_grad():
        whole = subject.module(net.preprocess(image))
        if not isinstance(whole, Tensor) or whole.dim() != 2:
            return None
        for top in (0, half):
            for left in (0, half):
                covered = image.clone()
                covered[..., top : top + half, left : left + half] = 0
                score = subject.module(net.preprocess(covered))[0, 3]
                pair = subject.module(net.preprocess(torch.cat([covered, image])))[0, 3]
                expected[top : top + half, left : left + half] = whole[0, 3] - score
                spread = max(spread, float((pair - score).abs()))
    # A drop is a difference of two scores, so rounding grows with the scores.
    error = float((found - expected).abs().max())
    allowed = TOLERANCE * float(expected.abs().max()) + 1e-4 * float(whole.abs().max())
    if error > allowed + 2 * spread:
        return f"off by {error:.1e}; drops up to {float(expected.abs().max()):.1e}"
    return None


def check_synthesis(subject: Subject) -> str | None:
    """Two steps towards a channel of the first convolution."""
    cs.synthesize(subject.net, "conv:1:0", steps=2, size=64)
    return None


def check_untouched(subject: Subject) -> str | None:
    """The module and the generator are as they were."""
    after = _state(subject.module)
    for kind, value in subject.before.items():
        other = after[kind]
        if kind == "weights":
            pairs = zip(value, other, strict=True)  # type: ignore[call-overload]
            same = all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in pairs)
        elif isinstance(value, Tensor) and isinstance(other, Tensor):
            same = torch.equal(value, other)
        else:
            same = value == other
        if not same:
            return f"{kind} changed"
    return None


STEPS: dict[str, Step] = {
    "layer table": check_table,
    "default layer": check_default_layer,
    "filters": check_filters,
    "prediction": check_prediction,
    "activations": check_rows,
    "gradcam": check_gradcam,
    "layercam": _runs("cam", method="layercam"),
    "fullgrad": _runs("cam", method="fullgrad"),
    "cam_across_layers": _runs("cam_across_layers"),
    "gradient": check_gradient,
    "guided": _runs("saliency", method="guided"),
    "deconvnet": _runs("saliency", method="deconvnet"),
    "integrated": _runs("saliency", method="integrated", samples=4),
    "occlusion": check_occlusion,
    "synthesize": check_synthesis,
    "scorecam": _runs("cam", method="scorecam"),
    "untouched": check_untouched,
}


_NUMBERS = frozenset(("activations", "gradcam", "gradient", "occlusion"))
_LONG = frozenset(
    ("fullgrad", "cam_across_layers", "integrated", "occlusion", "synthesize", "scorecam")
)


@contextmanager
def _time_limit(seconds: float | None) -> Iterator[None]:
    """Raise `Late` when `seconds` have passed; None never does."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Late

    if seconds is None:
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_network(
    address: str, seconds: float | None = None, steps: Iterable[str] = tuple(STEPS)
) -> Iterator[dict[str, object]]:
    """Results of steps, in order: ok, refused, wrong, traceback, or late where time is limited."""
    warnings.simplefilter("ignore")
    start = time.monotonic()
    try:
        subject = Subject(address)
    except Exception as error:  # noqa: BLE001 - nothing of ours ran yet, or it raised
        yield {"step": "make", "verdict": "not made", "words": f"{type(error).__name__}: {error}"}
        return
    for name in steps:
        limit = None
        if seconds is not None and name in _LONG:
            limit = min(STEP_SECONDS, seconds - (time.monotonic() - start))
        try:
            with _time_limit(limit):
                wrong = STEPS[name](subject)
            if wrong and name in _NUMBERS:  # float32 rounds much in random networks of many layers
                wrong = STEPS[name](Subject(address, double=True))
            verdict, words = ("wrong", wrong) if wrong else ("ok", "")
            if name == "default layer":
                words = subject.net.layers.default.name
        except Late:
            verdict, words = "late", ""
        except ConvscopeError as error:
            verdict, words = "refused", str(error)
        except Exception as error:  # noqa: BLE001 - what this script looks for
            verdict, words = "traceback", f"{type(error).__name__}: {error}"
        yield {"step": name, "verdict": verdict, "words": words}


def in_child(address: str, seconds: float) -> dict[str, object]:
    """All steps of one network in a process of its own, which is ended when it takes too long."""
    command = [sys.executable, __file__, "--network", address, "--seconds", str(seconds)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        output, _ = process.communicate(timeout=3 * seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    results = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return {"network": address, "results": results, "ended": process.returncode}


def report(state: Path) -> None:
    """Counts, and every sentence that is not "ok"."""
    records = [json.loads(line) for line in state.read_text().splitlines()]
    counts = Counter(r["verdict"] for one in records for r in one["results"])
    print(f"{len(records)} networks: {dict(counts)}")
    for verdict in ("traceback", "wrong", "refused", "not made"):
        for one in records:
            for result in one["results"]:
                if result["verdict"] == verdict:
                    print(f"{verdict}: {one['network']}, {result['step']}: {result['words'][:300]}")


def main() -> None:
    """Run what is missing and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, default=Path("zoo.jsonl"))
    parser.add_argument("--only", default="", help="networks whose address starts so")
    parser.add_argument("--seconds", type=float, default=60, help="for each network")
    parser.add_argument("--network", help="run this one here and print its lines")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.network:
        for result in run_network(options.network, options.seconds):
            print(json.dumps(result), flush=True)
        return
    lines = options.state.read_text().splitlines() if options.state.exists() else []
    done = {json.loads(line)["network"] for line in lines}
    for address in names(options.only):
        if address not in done:
            record = in_child(address, options.seconds)
            with options.state.open("a") as file:
                file.write(json.dumps(record) + "\n")
    report(options.state)


if __name__ == "__main__":
    main()
