"""Record a forward pass and replay only what comes after one value of it.

How this works. `record` runs the network once, on one image, and stores what each call of a module,
and of an activation or pooling function, returned if it finished before the target value was there.
`replay` runs the same Python code again for B variants of that value. Recorded calls return their
stored output, expanded over the batch; the target returns the variants; what follows is computed:

    call                    record                   replay of B variants
    stem                    runs, output stored      stored output, expanded to B
    block1                  runs, output stored      stored output, expanded to B
    |- conv, relu           run, then forgotten      not reached, block1 is skipped
    block2                  runs                     runs, for the target is inside it
    |- conv                 runs, output stored      stored output, expanded to B
    |- relu  <- target      runs, output stored      the B variants
    |- conv                 runs                     runs
    head                    runs                     runs

`block1` finished before the target, so its output is all that a replay needs of it. A hook cannot skip
a module's own work: `forward` is overridden on the instances, only while the block lasts. A stored output that
later code writes into (an in-place ReLU after it) is marked `mutated_later` and copied for each replay.
If a replay meets other calls than the recording, it raises `ReplayDiverged`.

`substitute_value` is the plain way, a whole pass in which one value is exchanged.
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

from convscope.execution.tensor_tree import (
    expand_batch,
    is_single_image,
    list_tensors,
    map_tensors,
    nbytes,
    with_batch_variants,
)
from convscope.tracing.capture import ValueLocation, function_kind

Forward = Callable[..., Any]
FunctionCall = partial[Any]  # a torch function with its arguments
Interceptor = Callable[[nn.Module, Forward, Any, Any], Any]


class ReplayDiverged(Exception):  # noqa: N818 - never leaves this package
    """A pass called other modules than the recorded one."""


@dataclass(eq=False)
class RecordedCall:
    """One call that a replay meets before the target.

    Attributes:
        source: the module, or the kind of function.
        skip: whether the stored output is returned instead of running it.
        output: that output, for one image.
        mutated_later: later code writes into the output, so each replay needs a copy of it.
    """

    source: nn.Module | str
    skip: bool = False
    output: Any = None
    mutated_later: bool = False


@dataclass(eq=False)
class Recording:
    """How to get to one value without computing what is before it.

    Attributes:
        calls: up to the target, in order, none of them inside one that is skipped.
        target: where the value is, runs counted as a replay meets them.
        output: what the target returned, for one image.
        locations: name -> location, counted likewise, of the values to read that come after it.
        call_counts: how often each module ran in the recorded pass.
        bytes_per_image: memory that the modules after the target fill for one image, with the
            copies of what they write into.
    """

    calls: list[RecordedCall] = field(default_factory=list)
    target: ValueLocation | None = None
    output: Any = None
    locations: dict[str, ValueLocation] = field(default_factory=dict)
    call_counts: dict[nn.Module | str, int] = field(default_factory=dict)
    bytes_per_image: int = 0


@contextmanager
def record(
    module: nn.Module, target: ValueLocation, locations: Mapping[str, ValueLocation]
) -> Iterator[Recording]:
    """Record the one forward pass, of one image, that is run inside the block.

    Args:
        module: the network.
        target: the value whose variants will be tried.
        locations: name -> location of values that will be read.

    Yields:
        The recording, complete after the block; its `target` is None if the value never came.
    """
    recorder = _Recorder(target, locations)
    with _override_forward(module.modules(), recorder.call), _InterceptFunctions(recorder.function):
        yield recorder.recording
    recorder.finish()


@contextmanager
def replay(recording: Recording, variants: Tensor) -> Iterator[None]:
    """Run the pass inside the block with the target's value replaced and what is before it skipped.

    Args:
        recording: from `record`.
        variants: (B, ...) values; the pass must be given B images, whatever they show.

    Raises:
        ReplayDiverged: if the pass calls other modules than the recorded one.
    """
    replayer = _Replayer(recording, variants)
    modules = {s.source for s in recording.calls if isinstance(s.source, nn.Module)}
    with _override_forward(modules, replayer.call), _InterceptFunctions(replayer.function):
        yield


@contextmanager
def substitute_value(target: ValueLocation, variants: Tensor) -> Iterator[None]:
    """Run the whole pass inside the block, with only the target's value replaced.

    Args:
        target: the value's location, runs counted as in a plain pass.
        variants: (B, ...) values; the pass must be given B images.
    """
    count = 0

    def exchange(result: Any) -> Any:
        nonlocal count
        count += 1
        return with_batch_variants(result, variants) if count == target.run else result

    def function(kind: str, count: FunctionCall) -> Any:
        result = count()
        return exchange(result) if kind == target.source else result

    with ExitStack() as stack:
        if isinstance(target.source, nn.Module):
            hook = target.source.register_forward_hook(lambda _module, _args, out: exchange(out))
            stack.callback(hook.remove)
        if isinstance(target.source, str):
            stack.enter_context(_InterceptFunctions(function))
        yield


class _InterceptFunctions(TorchFunctionMode):
    """Hands activation and pooling functions to `handler` instead of calling them."""

    def __init__(self, handler: Callable[[str, FunctionCall], Any]) -> None:
        super().__init__()
        self.handler = handler

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        run = partial(func, *args, **(kwargs or {}))
        kind = function_kind(func)
        return self.handler(kind, run) if kind else run()


@contextmanager
def _override_forward(modules: Iterable[nn.Module], interceptor: Interceptor) -> Iterator[None]:
    """Send every call of `modules` through `interceptor`; their own `forward` is restored."""
    with ExitStack() as stack:
        for module in modules:
            if isinstance(module, torch.jit.ScriptModule):
                continue  # its forward is compiled and runs as part of what calls it
            stack.callback(_restore_forward, module, vars(module).get("forward"))
            vars(module)["forward"] = _intercepted(interceptor, module, module.forward)
        yield


def _restore_forward(module: nn.Module, instance_forward: Any) -> None:
    vars(module).pop("forward", None)
    if instance_forward is not None:
        vars(module)["forward"] = instance_forward


def _intercepted(interceptor: Interceptor, module: nn.Module, forward: Forward) -> Forward:
    return lambda *args, **kwargs: interceptor(module, forward, args, kwargs)


@dataclass(eq=False)
class _TrackedTensor:
    """A tensor with which the recorded pass went on, and its version when last checked."""

    call: RecordedCall
    tensor: Tensor
    version: int


class _Recorder:
    """Makes the recording: the outermost calls that finish before the target."""

    def __init__(self, target: ValueLocation, locations: Mapping[str, ValueLocation]) -> None:
        self.target, self.locations, self.recording = target, locations, Recording()
        self.call_counts = self.recording.call_counts
        self.replay_counts: dict[nn.Module | str, int] = {}  # calls that a replay will meet
        self.tracked: list[_TrackedTensor] = []
        self.target_reached = False

    def call(self, module: nn.Module, forward: Forward, args: Any, kwargs: Any) -> Any:
        if self.target_reached:
            output = forward(*args, **kwargs)
            is_leaf = next(module.children(), None) is None
            self.recording.bytes_per_image += nbytes(output) if is_leaf else 0
        else:
            output = self._record_module(module, forward, args, kwargs)
        self._count(module)
        return output

    def function(self, kind: str, run: FunctionCall) -> Any:
        result = run() if self.target_reached else self._record_function(kind, run)
        self._count(kind)
        return result

    def finish(self) -> None:
        self._check_mutations()
        self.tracked.clear()
        recording = self.recording
        copies = [recorded.output for recorded in recording.calls if recorded.mutated_later]
        recording.bytes_per_image += nbytes([*copies, recording.output])

    def _record_module(self, module: nn.Module, forward: Forward, args: Any, kwargs: Any) -> Any:
        """Run a module's call that begins before the target's value is there."""
        self._check_mutations()
        calls, position, tracked = (
            self.recording.calls,
            len(self.recording.calls),
            len(self.tracked),
        )
        replay_counts = dict(self.replay_counts)
        calls.append(RecordedCall(module))
        output = forward(*args, **kwargs)
        target = self._is_target(module)
        if not self.target_reached and (target or is_single_image(output)):
            del calls[position + 1 :], self.tracked[tracked:]
            self.replay_counts = replay_counts
            self._record_output(calls[position], output, target=target)
        return output

    def _record_function(self, kind: str, run: FunctionCall) -> Any:
        self._check_mutations()
        self.recording.calls.append(recorded := RecordedCall(kind))
        versions = [(tensor, tensor._version) for tensor in list_tensors((run.args, run.keywords))]
        output = run()
        is_inplace = any(tensor._version != version for tensor, version in versions)
        target = self._is_target(kind)
        # A replay must repeat what writes into tensors that others may read.
        if target or (is_single_image(output) and not is_inplace):
            self._record_output(recorded, output, target=target)
        return output

    def _record_output(self, recorded: RecordedCall, output: Any, *, target: bool) -> None:
        """All that a replay needs of this call is its output."""
        if target:
            run = self.replay_counts.get(recorded.source, 0) + 1
            self._record_target(ValueLocation(recorded.source, run), output)
            return
        recorded.skip, recorded.output = True, map_tensors(output, Tensor.clone)
        self._check_mutations(mark=False)  # a replay skips what this call wrote elsewhere
        outputs = list_tensors(output)
        self.tracked += [_TrackedTensor(recorded, tensor, tensor._version) for tensor in outputs]

    def _record_target(self, location: ValueLocation, output: Any) -> None:
        self.target_reached = True
        self.recording.target, self.recording.output = location, map_tensors(output, Tensor.clone)

    def _is_target(self, source: nn.Module | str) -> bool:
        return ValueLocation(source, self.call_counts.get(source, 0) + 1) == self.target

    def _count(self, source: nn.Module | str) -> None:
        for counts in (self.call_counts, self.replay_counts):
            counts[source] = counts.get(source, 0) + 1
        if not self.target_reached:
            return
        recorded = ValueLocation(source, self.call_counts[source])
        replayed = ValueLocation(source, self.replay_counts[source])
        names = [name for name, location in self.locations.items() if location == recorded]
        self.recording.locations.update(dict.fromkeys(names, replayed))

    def _check_mutations(self, *, mark: bool = True) -> None:
        """Mark outputs that code which a replay runs again has written into: they cannot be shared."""
        for entry in self.tracked:
            if entry.tensor._version != entry.version:
                entry.call.mutated_later |= mark
                entry.version = entry.tensor._version


class _Replayer:
    """Follows the recording for a batch of variants."""

    def __init__(self, recording: Recording, variants: Tensor) -> None:
        self.recording, self.variants = recording, variants
        self.position, self.target_reached = 0, False

    def call(self, module: nn.Module, forward: Forward, args: Any, kwargs: Any) -> Any:
        return self._run_or_skip(module, partial(forward, *args, **kwargs))

    def function(self, kind: str, run: FunctionCall) -> Any:
        return self._run_or_skip(kind, run)

    def _run_or_skip(self, source: nn.Module | str, run: Callable[[], Any]) -> Any:
        if self.target_reached:
            return run()
        recorded = self._next_call(source)
        if recorded.skip:
            return expand_batch(recorded.output, len(self.variants), copy=recorded.mutated_later)
        if recorded is self.recording.calls[-1] and self._is_target(source):
            return self._substitute()
        return run()

    def _next_call(self, source: nn.Module | str) -> RecordedCall:
        recorded = (
            self.recording.calls[self.position]
            if self.position < len(self.recording.calls)
            else None
        )
        if recorded is None or recorded.source != source:
            raise ReplayDiverged
        self.position += 1
        return recorded

    def _is_target(self, source: nn.Module | str) -> bool:
        return self.recording.target is not None and self.recording.target.source == source

    def _substitute(self) -> Any:
        self.target_reached = True
        return with_batch_variants(self.recording.output, self.variants)
