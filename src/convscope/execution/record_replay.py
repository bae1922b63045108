"""Re-running only what comes after one value of a pass: the second file that touches a live one.

`recording` notes, during one plain pass over one picture, what every call of a module, and of an
activation or pooling function, returned that finished before the value was there. `replaying` lets the same module run over B variants of that
value: calls that were noted return what they returned, and only the rest is computed. A hook
cannot skip a module's own work, so `forward` is shadowed on the instances while a block lasts.
`substituting` is the plain way, a whole pass in which one value is exchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from convscope.execution.tensor_tree import mapped, nbytes, one_picture, repeated, tensors, varied
from convscope.tracing.hooks import ValueLocation, function_kind

Forward = Callable[..., Any]
Function = partial[Any]  # a call of a torch function, with what it is given
Call = Callable[[nn.Module, Forward, Any, Any], Any]


class Diverged(Exception):  # noqa: N818 - never leaves this package
    """A pass called other modules than the recorded one."""


@dataclass(eq=False)
class Step:
    """One call that a replay meets before the target.

    Attributes:
        source: which module, or which kind of function.
        skip: whether its output is given back instead of running it.
        output: that output for one picture.
        written: later code writes into the output, so each replay needs memory of its own for it.
    """

    source: nn.Module | str
    skip: bool = False
    output: Any = None
    written: bool = False


@dataclass(eq=False)
class Script:
    """How to come to one value without computing what is before it.

    Attributes:
        steps: calls up to the target, in order, none of them inside one that is skipped.
        target: where the value is, runs counted as a replay meets them.
        output: what the target returned, for one picture.
        sites: name -> place, counted likewise, of the values asked for that come afterwards.
        runs: how often each module ran in the recorded pass.
        bytes: memory that the modules after the target fill for one picture, and the copies of
            what they write into.
    """

    steps: list[Step] = field(default_factory=list)
    target: ValueLocation | None = None
    output: Any = None
    sites: dict[str, ValueLocation] = field(default_factory=dict)
    runs: dict[nn.Module | str, int] = field(default_factory=dict)
    bytes: int = 0


@contextmanager
def recording(
    module: nn.Module, target: ValueLocation, wanted: Mapping[str, ValueLocation]
) -> Iterator[Script]:
    """Note what is needed to replay the one pass, over one picture, run inside the block.

    Args:
        module: the network.
        target: the value whose variants will be tried.
        wanted: name -> place of values that will be read afterwards.

    Yields:
        The script, complete once the pass is; its `target` is None if the value never came.
    """
    recorder = _Recorder(target, wanted)
    with _shadowed(module.modules(), recorder.call), _Calls(recorder.function):
        yield recorder.script
    recorder.close()


@contextmanager
def replaying(script: Script, variants: Tensor) -> Iterator[None]:
    """Run the pass inside the block with the target's value replaced and what is before skipped.

    Args:
        script: from `recording`.
        variants: (B, ...) values; the pass must be given B pictures, whatever they show.

    Raises:
        Diverged: if the pass calls other modules than the recorded one.
    """
    player = _Player(script, variants)
    modules = {s.source for s in script.steps if isinstance(s.source, nn.Module)}
    with _shadowed(modules, player.call), _Calls(player.function):
        yield


@contextmanager
def substituting(target: ValueLocation, variants: Tensor) -> Iterator[None]:
    """Run the whole pass inside the block, with only the target's value replaced.

    Args:
        target: runs counted as in a plain pass.
        variants: (B, ...) values; the pass must be given B pictures.
    """
    runs = 0

    def arrived(result: Any) -> Any:
        nonlocal runs
        runs += 1
        return varied(result, variants) if runs == target.run else result

    def function(kind: str, run: Function) -> Any:
        result = run()
        return arrived(result) if kind == target.source else result

    with ExitStack() as stack:
        if isinstance(target.source, nn.Module):
            hook = target.source.register_forward_hook(lambda _module, _args, out: arrived(out))
            stack.callback(hook.remove)
        if isinstance(target.source, str):
            stack.enter_context(_Calls(function))
        yield


class _Calls(TorchFunctionMode):
    """Hands activation and pooling functions to `listener` instead of calling them."""

    def __init__(self, listener: Callable[[str, Function], Any]) -> None:
        super().__init__()
        self.listener = listener

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        run = partial(func, *args, **(kwargs or {}))
        kind = function_kind(func)
        return self.listener(kind, run) if kind else run()


@contextmanager
def _shadowed(modules: Iterable[nn.Module], call: Call) -> Iterator[None]:
    """Send every call of `modules` through `call`; what stood on the instances is put back."""
    with ExitStack() as stack:
        for module in modules:
            if isinstance(module, torch.jit.ScriptModule):
                continue  # its forward is compiled and runs as part of what calls it
            stack.callback(_put_back, module, vars(module).get("forward"))
            vars(module)["forward"] = _through(call, module, module.forward)
        yield


def _put_back(module: nn.Module, own: Any) -> None:
    vars(module).pop("forward", None)
    if own is not None:
        vars(module)["forward"] = own


def _through(call: Call, module: nn.Module, forward: Forward) -> Forward:
    return lambda *args, **kwargs: call(module, forward, args, kwargs)


@dataclass(eq=False)
class _Live:
    """A tensor with which the recorded pass went on, and its version when last looked at."""

    step: Step
    tensor: Tensor
    version: int


class _Recorder:
    """Writes the script: the outermost calls that finish before the target."""

    def __init__(self, target: ValueLocation, wanted: Mapping[str, ValueLocation]) -> None:
        self.target, self.wanted, self.script = target, wanted, Script()
        self.runs = self.script.runs
        self.met: dict[nn.Module | str, int] = {}  # runs that a replay will meet
        self.live: list[_Live] = []
        self.done = False

    def call(self, module: nn.Module, forward: Forward, args: Any, kwargs: Any) -> Any:
        if self.done:
            output = forward(*args, **kwargs)
            self.script.bytes += nbytes(output) if next(module.children(), None) is None else 0
        else:
            output = self._early(module, forward, args, kwargs)
        self._count(module)
        return output

    def function(self, kind: str, run: Function) -> Any:
        result = run() if self.done else self._early_function(kind, run)
        self._count(kind)
        return result

    def close(self) -> None:
        self._look_for_writes()
        self.live.clear()
        copies = [step.output for step in self.script.steps if step.written]
        self.script.bytes += sum(nbytes(output) for output in (*copies, self.script.output))

    def _early(self, module: nn.Module, forward: Forward, args: Any, kwargs: Any) -> Any:
        """Run a call that begins before the target's value is there."""
        self._look_for_writes()
        place, met, live = len(self.script.steps), dict(self.met), len(self.live)
        self.script.steps.append(Step(module))
        output = forward(*args, **kwargs)
        target = self._is_target(module)
        if not self.done and (target or one_picture(output)):
            del self.script.steps[place + 1 :], self.live[live:]
            self.met = met
            self._finish(self.script.steps[place], output, target=target)
        return output

    def _early_function(self, kind: str, run: Function) -> Any:
        self._look_for_writes()
        self.script.steps.append(step := Step(kind))
        given = [(tensor, tensor._version) for tensor in tensors((run.args, run.keywords))]
        output = run()
        in_place = any(tensor._version != version for tensor, version in given)
        target = self._is_target(kind)
        if target or (one_picture(output) and not in_place):  # others may read what it wrote into
            self._finish(step, output, target=target)
        return output

    def _finish(self, step: Step, output: Any, *, target: bool) -> None:
        """All that a replay must know of this call is its output."""
        if target:
            self._reached(ValueLocation(step.source, self.met.get(step.source, 0) + 1), output)
            return
        step.skip, step.output = True, mapped(output, Tensor.clone)
        self._look_for_writes(flag=False)  # a replay skips what this call wrote elsewhere
        self.live += [_Live(step, tensor, tensor._version) for tensor in tensors(output)]

    def _reached(self, site: ValueLocation, output: Any) -> None:
        self.done = True
        self.script.target, self.script.output = site, mapped(output, Tensor.clone)

    def _is_target(self, source: nn.Module | str) -> bool:
        return ValueLocation(source, self.runs.get(source, 0) + 1) == self.target

    def _count(self, source: nn.Module | str) -> None:
        for counts in (self.runs, self.met):
            counts[source] = counts.get(source, 0) + 1
        due = ValueLocation(source, self.runs[source])
        names = [name for name, site in self.wanted.items() if site == due and self.done]
        self.script.sites.update(dict.fromkeys(names, ValueLocation(source, self.met[source])))

    def _look_for_writes(self, *, flag: bool = True) -> None:
        """Code that a replay runs again has written into an output: it cannot be shared."""
        for seen in self.live:
            if seen.tensor._version != seen.version:
                seen.step.written |= flag
                seen.version = seen.tensor._version


class _Player:
    """Reads the script back for a batch of variants."""

    def __init__(self, script: Script, variants: Tensor) -> None:
        self.script, self.variants = script, variants
        self.place, self.done = 0, False

    def call(self, module: nn.Module, forward: Forward, args: Any, kwargs: Any) -> Any:
        return self._answer(module, partial(forward, *args, **kwargs))

    def function(self, kind: str, run: Function) -> Any:
        return self._answer(kind, run)

    def _answer(self, source: nn.Module | str, run: Callable[[], Any]) -> Any:
        if self.done:
            return run()
        step = self._next(source)
        if step.skip:
            return repeated(step.output, len(self.variants), own=step.written)
        if step is self.script.steps[-1] and self._is_target(source):
            return self._vary()
        return run()

    def _next(self, source: nn.Module | str) -> Step:
        step = self.script.steps[self.place] if self.place < len(self.script.steps) else None
        if step is None or step.source != source:
            raise Diverged
        self.place += 1
        return step

    def _is_target(self, source: nn.Module | str) -> bool:
        return self.script.target is not None and self.script.target.source == source

    def _vary(self) -> Any:
        self.done = True
        return varied(self.script.output, self.variants)
