"""Small networks with every trap in them, and the real ones where they are at hand."""

import importlib.util
import os
import signal
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope

FIXTURES = Path(os.environ.get("CONVSCOPE_FIXTURES", Path(__file__).parents[1].parent / "shared"))
needs_fixtures = pytest.mark.skipif(
    not (FIXTURES / "weights").is_dir(),
    reason=f"real checkpoints and photographs are not at {FIXTURES} (CONVSCOPE_FIXTURES)",
)


def pytest_configure():
    """Worker processes share the processor, also with the commands that their tests start."""
    workers = os.environ.get("PYTEST_XDIST_WORKER_COUNT")
    if workers:
        threads = max(1, (os.cpu_count() or 1) // int(workers))
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)


class Tiny(nn.Module):
    """In-place, functional and reused ReLUs, a residual sum, a reused pool, dropout, train mode."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.mid = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.unused = nn.Conv2d(3, 1, 1)
        self.last = nn.Conv2d(8, 6, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        a = self.pool(self.act(self.stem(x)))
        b = self.norm(self.mid(a))
        b += a
        b = F.relu(b, inplace=True)
        c = self.act(self.last(b))
        return self.head(self.drop(self.pool(c).mean((-2, -1))))


def tiny_module():
    torch.manual_seed(0)
    module = Tiny()
    with torch.no_grad():
        module.norm.running_mean.uniform_(-0.2, 0.2)
        module.norm.running_var.uniform_(0.5, 1.5)
        module.norm.weight.uniform_(0.5, 1.5)
    module.train()
    module.mid.eval()  # a mixed state, to see that it is put back
    module.last.weight.requires_grad_(False)
    return module


@pytest.fixture(autouse=True, scope="session")
def _short_tours():
    """Pictures of a tour take few steps here; test_wanted makes real ones."""
    from convscope.report import synthesis_chapter as wanted

    wanted.STEPS = 4


@pytest.fixture
def ctrl_c():
    """Ctrl-C raises KeyboardInterrupt; a shell lets its background jobs ignore it."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.fixture
def module():
    return tiny_module()


@pytest.fixture
def net(module):
    labels = ("tench", "church", "gas pump", "crane", "crane")
    return convscope.Network(module, name="tiny", labels=labels, input_size=(16, 16))


@pytest.fixture
def images():
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def fixtures():
    """The folder of real checkpoints and photographs."""
    if not (FIXTURES / "weights").is_dir():
        pytest.skip(f"real checkpoints and photographs are not at {FIXTURES} (CONVSCOPE_FIXTURES)")
    return FIXTURES


@pytest.fixture(scope="session")
def definitions(fixtures):
    """The module definitions that go with the checkpoints."""
    place = fixtures / "weights" / "fixture_models.py"
    spec = importlib.util.spec_from_file_location("fixture_models", place)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="session")
def squeezenet(fixtures):
    file = fixtures / "weights" / "squeezenet1_1_caffe-3041ebce.pth"
    return convscope.load("torchvision:squeezenet1_1", weights=file)


@pytest.fixture(scope="session")
def googlenet(fixtures, definitions):
    file = fixtures / "weights" / "bvlc_googlenet-959eda1f.pth"
    return convscope.load(
        definitions.BVLCGoogLeNet(),
        weights=file,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        size=224,
        resize=256,
    )


def state_of(module):
    """All that a method might leave behind on a module."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "hooks": [len(getattr(m, kind)) for m in module.modules() for kind in kinds],
        "modes": [m.training for m in module.modules()],
        "flags": [p.requires_grad for p in module.parameters()],
        "grads": [p.grad is None for p in module.parameters()],
        "forwards": ["forward" in m.__dict__ for m in module.modules()],
        "classes": [type(m) for m in module.modules()],
        "children": [name for name, _ in module.named_modules()],
        "weights": [(k, v.clone()) for k, v in module.state_dict().items()],
        "generator": torch.get_rng_state(),
        "grad mode": torch.is_grad_enabled(),
    }


def assert_untouched(before, module):
    after = state_of(module)
    for name in before:
        if name == "weights":
            assert [k for k, _ in before[name]] == [k for k, _ in after[name]]
            for (key, old), (_, new) in zip(before[name], after[name], strict=True):
                assert torch.equal(old, new), key
        elif name == "generator":
            assert torch.equal(before[name], after[name]), name
        else:
            assert before[name] == after[name], name
