"""What a network's probabilities are: its own softmax or sigmoid, one that was asked for, or none."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convscope as cs
from convscope.errors import ArgumentError, TargetError

SIZE = 24


class Head(nn.Module):
    """Maps, their means, a linear layer, and a function of the logits."""

    def __init__(self, last, classes=4, scale=8.0):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.maps = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.fc = nn.Linear(6, classes)
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0, 0.4, generator=generator)
        nn.init.normal_(self.fc.weight, 0, scale, generator=generator)
        self.last = last

    def logits(self, x):
        return self.fc(self.maps(x).mean((2, 3)))

    def forward(self, x):
        return self.last(self.logits(x))


def loaded(module, **options):
    return cs.load(module.eval(), mean=0.5, std=0.5, size=SIZE, **options)


def photographs(count=2):
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits_of(module, x):
    return module.logits((x - 0.5) / 0.5)


@torch.no_grad()
def output_of(module, x):
    return module((x - 0.5) / 0.5)


def in_place(z):
    return z.clone().sigmoid_()


def one_by_one(z):
    return torch.cat([row[None].softmax(1) for row in z])


ENDS = {
    "softmax": lambda z: torch.softmax(z, 1),
    "method": lambda z: z.softmax(-1),
    "functional": lambda z: F.softmax(z, dim=1),
    "module": nn.Softmax(1),
    "in a sequence": nn.Sequential(nn.Dropout(), nn.Softmax(dim=-1)),
    "as a map": lambda z: nn.Softmax2d()(z[:, :, None, None]),
    "one by one": one_by_one,
    "sigmoid": torch.sigmoid,
    "sigmoid module": nn.Sigmoid(),
    "in place": in_place,
    "sigmoid of a view": lambda z: z.view(len(z), 2, 2).sigmoid().flatten(1),
    "expit": torch.special.expit,
}


@pytest.mark.parametrize("end", ENDS)
def test_probabilities_are_the_networks_own_and_scores_what_enters(end):
    module, x = Head(ENDS[end]), photographs()
    net = loaded(module)
    own, logits = output_of(module, x).flatten(1), logits_of(module, x)
    for c in range(4):
        assert torch.allclose(net.score(cs.probability(c), x), own[:, c], atol=1e-6)
        assert torch.allclose(net.score(cs.logit(c), x), logits[:, c], atol=1e-5)
    table = cs.predict(net, x, top=4)
    for photo, c, _, probability, score in table.rows:
        assert (probability, score) == pytest.approx(
            (float(own[photo, c]), float(logits[photo, c])), abs=1e-4
        )
    assert "enter the network's last s" in table.recipe.scores


@pytest.mark.parametrize("end", [lambda z: F.log_softmax(z, 1), nn.LogSoftmax(-1)])
def test_log_probabilities(end):
    module, x = Head(end), photographs()
    net = loaded(module)
    assert torch.allclose(
        net.score(cs.probability(2), x), output_of(module, x)[:, 2].exp(), atol=1e-6
    )
    assert torch.allclose(net.score(cs.logit(2), x), logits_of(module, x)[:, 2], atol=1e-5)


@pytest.mark.parametrize("scale", [8.0, 4000.0])
@pytest.mark.parametrize("end", ["softmax", "sigmoid", "module", "one by one"])
def test_maps_are_those_of_the_network_without_its_last_function(end, scale):
    """A probability near 1 has no gradient left; the score that enters it has."""
    plain, x = Head(nn.Identity(), scale=scale), photographs()
    module = Head(ENDS[end], scale=scale)
    module.load_state_dict(plain.state_dict())
    net, expected = loaded(module), loaded(plain)
    for method in ("gradcam", "layercam", "fullgrad"):
        wanted = cs.cam(expected, x, method=method).values
        assert wanted.abs().max() > 0
        assert torch.allclose(cs.cam(net, x, method=method).values, wanted, rtol=1e-4, atol=1e-6)
    wanted = cs.saliency(expected, x, 1).values
    assert torch.allclose(cs.saliency(net, x, 1).values, wanted, rtol=1e-4)


@pytest.mark.parametrize("layers", [("output",), ("output", "conv:1")])
@pytest.mark.parametrize("end", ["softmax", "sigmoid module", "one by one"])
def test_occlusion_watches_what_enters(end, layers):
    """Incrementally, and in batches where inner layers are read too."""
    module, plain, x = Head(ENDS[end]), Head(nn.Identity()), photographs(1)
    question = cs.logit(1)
    if len(layers) > 1:
        question = question + 0 * cs.channel("conv:1", 0)
    options = {"window": 6, "stride": 2}
    found = cs.occlusion(loaded(module), x, question, **options)
    wanted = cs.occlusion(loaded(plain), x, question, **options)
    assert torch.allclose(found.values, wanted.values, atol=1e-4)
    if end != "one by one":
        assert found.recipe.parameters["algorithm"] == wanted.recipe.parameters["algorithm"]


@pytest.mark.parametrize("method", ["scorecam", "ablationcam"])
def test_methods_that_run_the_network_in_part(method):
    module, plain, x = Head(ENDS["sigmoid"]), Head(nn.Identity()), photographs(1)
    wanted = cs.cam(loaded(plain), x, 1, method=method).values
    assert torch.allclose(
        cs.cam(loaded(module), x, 1, method=method).values, wanted, rtol=1e-3, atol=1e-5
    )


def test_gradient_of_the_probability_is_that_of_the_networks_own():
    module, x = Head(ENDS["softmax"], scale=1.0), photographs()
    pixels = x.clone().requires_grad_()
    module.eval()((pixels - 0.5) / 0.5)[:, 1].sum().backward()
    _, found = loaded(module).pixel_gradients(cs.probability(1), x)
    assert torch.allclose(found, pixels.grad, atol=1e-7)


def test_a_no_of_forty_percent_stays_one():
    module, x = Head(nn.Sigmoid(), classes=1, scale=0.0), photographs(1)
    nn.init.constant_(module.fc.bias, -0.4)
    net = loaded(module)
    own = float(torch.tensor(-0.4).sigmoid())
    assert cs.predict(net, x).rows[0][3] == pytest.approx(own, abs=1e-6)
    assert cs.predict(net, x).rows[0][4] == pytest.approx(-0.4, abs=1e-6)
    resolved = net.resolve_target(cs.predicted(), x)
    assert resolved == -cs.logit(0)


@pytest.mark.parametrize(
    ("last", "what"),
    [
        (lambda z: F.relu(z) / F.relu(z).sum(1, keepdim=True), "sum to 1"),
        (lambda z: (z.softmax(1) + (z / 2).softmax(1)) / 2, "come from a softmax"),
        (lambda z: torch.stack([z.softmax(1), z.sin().softmax(1)]).mean(0), "come from"),
        (lambda z: z.softmax(1)[:, :3], "come from"),
        (lambda z: z.softmax(1)[:, 1], "come from"),
        (F.hardsigmoid, "come from"),
    ],
)
def test_other_probabilities_stay_as_they_are(last, what):
    module, x = Head(last, scale=1.0), photographs()
    nn.init.constant_(module.fc.bias, 1.0)
    net = loaded(module)
    own = output_of(module, x).reshape(2, -1)
    assert torch.allclose(net.score(cs.probability(0), x), own[:, 0], atol=1e-6)
    assert torch.allclose(net.score(cs.logit(0), x), own[:, 0], atol=1e-6)
    assert net.probability_rule.kind == "given"
    assert what in net.probability_rule.words


def test_a_sure_mean_of_two_networks_is_no_single_softmax():
    """Both are sure of one class, so that the mean equals the last softmax."""
    module = Head(lambda z: torch.stack([z.softmax(1), (2 * z).softmax(1)]).mean(0), scale=4000.0)
    net, x = loaded(module), photographs()
    assert torch.allclose(net.score(cs.logit(0), x), output_of(module, x)[:, 0])


def test_gates_inside_are_no_last_sigmoid():
    class Gated(Head):
        def forward(self, x):
            z = self.logits(x)
            return z * z.sigmoid()

    module, x = Gated(None), photographs()
    net = loaded(module)
    wanted = output_of(module, x).softmax(1)[:, 1]
    assert torch.allclose(net.score(cs.probability(1), x), wanted, atol=1e-6)
    assert net.probability_rule.words == "Probabilities are the softmax of the scores."


def test_gates_before_and_another_head_after_the_output():
    class Two(Head):
        def forward(self, x):
            z = self.logits(x)
            first = (z * z.sigmoid()).softmax(1)
            return first, (2 * z).sigmoid()

    module, x = Two(None), photographs()
    logits = logits_of(module, x)
    net = loaded(module, output=0)
    assert torch.allclose(net.score(cs.logit(1), x), (logits * logits.sigmoid())[:, 1], atol=1e-5)
    other = loaded(module, output=1)
    assert torch.allclose(other.score(cs.logit(1), x), 2 * logits[:, 1], atol=1e-5)
    assert torch.allclose(other.score(cs.probability(1), x), (2 * logits[:, 1]).sigmoid())


@pytest.mark.parametrize(
    ("option", "last", "wanted"),
    [
        ("sigmoid", nn.Identity(), torch.sigmoid),
        ("softmax", nn.Identity(), lambda z: z.softmax(1)),
        ("softmax", nn.Softmax(1), lambda z: z.softmax(1)),
        ("given", nn.Softmax(1), lambda z: z.softmax(1)),
        ("given", lambda z: 1 / (1 + (-z).exp()), torch.sigmoid),
        ("sigmoid", nn.Sigmoid(), torch.sigmoid),
    ],
)
def test_what_is_asked_for(option, last, wanted):
    module, x = Head(last), photographs()
    net = loaded(module, probabilities=option)
    expected = wanted(logits_of(module, x))
    for c in range(4):
        assert torch.allclose(net.score(cs.probability(c), x), expected[:, c], atol=1e-5)


def test_independent_labels_in_the_table():
    module, x = Head(nn.Identity(), classes=33), photographs(1)
    table = cs.predict(loaded(module, probabilities="sigmoid"), x, top=33)
    expected = logits_of(module, x)[0].sigmoid()
    assert {row[1]: pytest.approx(row[3], abs=1e-5) for row in table.rows} == {
        c: float(expected[c]) for c in range(33)
    }


def test_a_score_that_is_only_a_score():
    module, x = Head(nn.Identity(), classes=1, scale=0.0), photographs()
    nn.init.constant_(module.fc.bias, -3.0)
    net = loaded(module, probabilities="none")
    assert net.score(cs.predicted(), x).tolist() == pytest.approx([-3.0, -3.0])
    assert cs.predict(net, x).column("probability") == [None, None]
    with pytest.raises(TargetError, match="probabilities='none'"):
        net.score(cs.probability(0), x)
    with pytest.raises(TargetError, match="probabilities='none'"):
        cs.occlusion_panels(net, x[:1], window=8, stride=8)
    assert cs.check(net, x[:1], method="gradient").sentences


def test_none_is_the_output_itself():
    module, x = Head(nn.Softmax(1)), photographs()
    net = loaded(module, probabilities="none")
    assert torch.allclose(net.score(cs.logit(1), x), output_of(module, x)[:, 1])


def test_what_is_no_probability_is_not_taken_for_one():
    net = loaded(Head(nn.Identity()), probabilities="given")
    with pytest.raises(ArgumentError, match="gives numbers from"):
        cs.predict(net, photographs(1))


def test_an_unknown_word_lists_the_known_ones():
    with pytest.raises(ArgumentError, match="auto, softmax, sigmoid, given, none"):
        loaded(Head(nn.Identity()), probabilities="logits")


SQUEEZED = {
    "numbers": (1, lambda z: z.squeeze()),
    "sigmoid after": (1, lambda z: z.squeeze().sigmoid()),
    "sigmoid before": (1, lambda z: z.sigmoid().squeeze()),
    "classes": (4, lambda z: z.squeeze()),
    "softmax after": (4, lambda z: z.squeeze().softmax(-1)),
}


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("how", SQUEEZED)
def test_squeezed_outputs(how, count):
    classes, last = SQUEEZED[how]
    module, plain, x = Head(last, classes), Head(nn.Identity(), classes), photographs(count)
    net, expected = loaded(module), loaded(plain)
    rows, wanted = cs.predict(net, x).rows, cs.predict(expected, x).rows
    assert [row[:3] for row in rows] == [row[:3] for row in wanted]
    for row, want in zip(rows, wanted, strict=True):
        assert row[3:] == pytest.approx(want[3:], abs=1e-4)
    for method in ("gradcam", "scorecam", "ablationcam", "fullgrad"):
        found = cs.cam(net, x, 0, method=method).values
        assert torch.allclose(
            found, cs.cam(expected, x, 0, method=method).values, rtol=1e-3, atol=1e-4
        )
    options = {"window": 6, "stride": 6}
    found, want = (cs.occlusion(n, x[:1], 0, **options).values for n in (net, expected))
    assert torch.allclose(found, want, rtol=1e-3, atol=1e-4)
    assert len(net.layers)


def test_outputs_with_an_axis_of_time_second_say_what_to_do():
    module = Head(lambda z: torch.stack([z, z + 1, z - 2], 1))
    x = photographs(2)
    with pytest.raises(TargetError, match=r"output=lambda out: out.mean\(1\)"):
        cs.predict(loaded(module), x)
    net = loaded(module, output=lambda out: out.mean(1))
    assert torch.allclose(net.score(cs.logit(1), x), logits_of(module, x)[:, 1] - 1 / 3, atol=1e-5)


def test_times_of_a_single_score_are_not_taken_for_classes():
    module = Head(lambda z: torch.stack([z, z, z]), classes=1)
    assert 1 == len(cs.predict(loaded(module), photographs(1)).rows)


class Segmenter(nn.Module):
    """A convolution of one number a pixel and class."""

    def __init__(self, classes, last):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.conv, self.last = nn.Conv2d(3, classes, 3, padding=1), last
        nn.init.normal_(self.conv.weight, 0, 2.0, generator=generator)
        nn.init.zeros_(self.conv.bias)

    def logits(self, x):
        return self.conv(x)

    def forward(self, x):
        return self.last(self.conv(x))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    "last",
    [nn.Identity(), nn.Sigmoid(), lambda z: z.squeeze(1), lambda z: z.squeeze().sigmoid()],
)
def test_one_map_is_predicted_where_it_is_above_a_half(last, count):
    module, x = Segmenter(1, last), photographs(count)
    z = logits_of(module, x)[:, 0]
    inside = z > 0
    assert 0 < inside.float().mean() < 1
    wanted = (z * inside).sum((1, 2)) / inside.sum((1, 2))
    assert torch.allclose(loaded(module).score(cs.segment(0), x), wanted, atol=1e-5)


def test_one_map_of_probabilities_that_are_enlarged():
    def last(z):
        return F.interpolate(z.sigmoid(), scale_factor=2, mode="bilinear")

    module, x = Segmenter(1, last), photographs()
    p = output_of(module, x)[:, 0]
    inside = p >= 0.5
    wanted = (p * inside).sum((1, 2)) / inside.sum((1, 2))
    assert torch.allclose(loaded(module).score(cs.segment(0), x), wanted, atol=1e-5)


@pytest.mark.parametrize(("last", "option"), [(nn.Sigmoid(), "auto"), (nn.Identity(), "sigmoid")])
def test_independent_maps_may_overlap(last, option):
    module, x = Segmenter(3, last), photographs()
    z = logits_of(module, x)
    inside = z[:, 1] > 0
    assert not torch.equal(inside, z.argmax(1) == 1)
    wanted = (z[:, 1] * inside).sum((1, 2)) / inside.sum((1, 2))
    net = loaded(module, probabilities=option)
    assert torch.allclose(net.score(cs.segment(1), x), wanted, atol=1e-5)


def test_one_map_of_scores_without_probabilities_wants_a_mask():
    net = loaded(Segmenter(1, nn.Identity()), probabilities="none")
    with pytest.raises(TargetError, match="give a mask"):
        net.score(cs.segment(0), photographs(1))


def test_layers_show_what_the_network_computes():
    """The last sigmoid's own map stays what it is, though scores are what enters it."""
    module, x = Segmenter(2, nn.Sigmoid()), photographs()
    acts = loaded(module).activations(x, ["last", "output"])
    assert torch.allclose(acts["last"], output_of(module, x))
    assert torch.allclose(acts["output"], logits_of(module, x), atol=1e-6)


def test_results_say_what_the_scores_are():
    net, x = loaded(Head(nn.Softmax(1))), photographs(1)
    said = (
        "Scores are the values that enter the network's last softmax, probabilities what it gives."
    )
    assert cs.predict(net, x).words().endswith(said)
    assert cs.cam(net, x).words().endswith(said)
    assert cs.cam(net, x, cs.probability(1)).words().endswith(said)
    assert "softmax" not in cs.cam(net, x, "conv:1:2", layer="conv:1").words()
    plain = loaded(Head(nn.Identity()))
    assert "softmax" not in cs.cam(plain, x).words()
    assert "softmax of the scores" in cs.predict(plain, x).words()


def test_a_recipe_does_not_depend_on_what_was_called_before():
    net, x = loaded(Head(nn.Softmax(1))), photographs(1)
    first = cs.filters(net).recipe
    cs.predict(net, x)
    assert first == cs.filters(net).recipe
    assert first.scores is None


class Computed(nn.Module):
    """One sigmoid, and what comes after it."""

    def __init__(self, after):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.after = nn.Conv2d(3, 8, 3), nn.Linear(8, 1), after
        self.scale, self.shift = nn.Parameter(torch.tensor([0.9])), nn.Parameter(torch.tensor(0.02))
        nn.init.constant_(self.head.bias, -1.0)

    def probability(self, x):
        return torch.sigmoid(self.head(self.conv(x).relu().mean((2, 3))))

    def forward(self, x):
        return self.after(self, self.probability(x), x)


@pytest.mark.parametrize(
    "after",
    [
        lambda net, p, x: (p + net.probability(x.flip(3))) / 2,
        lambda net, p, x: sum([p, net.probability(x.flip(3))]) / 2,
        lambda _net, p, _x: 1 - p,
        lambda _net, p, _x: p.mul(0.9).add(0.02),
        lambda net, p, _x: net.scale * p + net.shift,
        lambda net, p, x: p * net.probability(x.flip(3)),
        lambda _net, p, _x: p / 2 - -0.25,
    ],
)
def test_a_probability_that_is_computed_further_is_the_networks_own(after):
    module = Computed(after).eval()
    net = cs.load(module, mean=0, std=1, size=16)
    image = torch.rand(1, 3, 16, 16)
    own = module(image).item()
    (found,) = cs.predict(net, image).column("probability")
    assert found == pytest.approx(own, rel=1e-5)
    words = "not class 0" if own < 0.5 else "class 0"
    shown = max(own, 1 - own)
    assert f"for {words} ({shown:.0%}" in cs.cam(net, image, layer="conv").words()


@pytest.mark.parametrize(
    "after",
    [
        lambda _net, p, _x: 4 * p,
        lambda _net, p, _x: 2 * p - 1,
        lambda net, p, x: p + net.probability(x.flip(3)),
        lambda net, p, x: p / net.probability(x.flip(3)),
        lambda net, p, x: p * x.mean((1, 2, 3))[:, None],
    ],
)
def test_what_may_lie_outside_of_0_and_1_is_no_probability(after):
    net = cs.load(Computed(after).eval(), mean=0, std=1, size=16)
    assert "none" == net.probability_rule.kind
    assert "so they are taken for scores only" in net.probability_rule.words


UNFOLLOWED = {
    "survival": lambda p: p.cumprod(1),
    "noisy or": lambda p: 1 - (1 - p).cumprod(1),
    "classes of classes": lambda p: torch.einsum("nk,kj->nj", p, torch.eye(3)[:, :2]),
    "a threshold": lambda p: torch.where(p > 0.2, p, 0 * p),
    "rounded": lambda p: p.round(decimals=2),
}


@pytest.mark.parametrize("name", UNFOLLOWED)
def test_what_is_computed_further_and_not_followed_has_no_invented_probability(name):
    class Further(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return UNFOLLOWED[name](self.head(self.conv(x).relu().mean((2, 3))).sigmoid())

    module, image = Further().eval(), torch.rand(1, 3, 16, 16)
    net = cs.load(module, mean=0, std=1, size=16)
    table = cs.predict(net, image, top=1)
    with torch.no_grad():
        own = module(image)[0]
    assert table.column("score") == [pytest.approx(float(own.max()), abs=1e-6)]
    assert net.probability_rule.words.startswith(
        "The outputs are computed from a softmax or sigmoid"
    )
    given = cs.load(module, mean=0, std=1, size=16, probabilities="given")
    assert cs.predict(given, image, top=1).column("probability") == [
        pytest.approx(float(own.max()), abs=1e-6)
    ]


def test_a_gate_before_the_last_layer_is_none_of_the_scores():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.gate, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 4), nn.Linear(4, 3)
            nn.init.constant_(self.head.bias, 0.5)
            nn.init.uniform_(self.head.weight, 0, 0.01)

        def forward(self, x):
            code = self.conv(x).relu().mean((2, 3))
            return self.head(code * self.gate(code).sigmoid())

    net = cs.load(Gated().eval(), mean=0, std=1, size=16)
    assert "Probabilities are the softmax of the scores." == net.probability_rule.words
