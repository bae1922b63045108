"""What a network's scores mean: one type says it, and every face repeats it."""

import ast
from pathlib import Path

import pytest
import torch
from torch import nn

import convscope
from convscope.errors import TargetError
from convscope.objectives.activations import Activations
from convscope.objectives.outputs import Detections
from convscope.objectives.scores import Scores

SOURCE = Path(convscope.__file__).parent

# Who may write "softmax" or "sigmoid" in code, and of what.
ELSEWHERE = {
    "objectives/scores.py": "the scores",
    "attribution/score_and_ablation_cam.py": "Score-CAM's weights over channels",
    "synthesis/parametrizations.py": "pixels from an unbounded parameter",
}


def code_names(file):
    """Attributes and names that a file's code uses, without its words."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Attribute | ast.Name):
            yield node.attr if isinstance(node, ast.Attribute) else node.id


def test_nobody_else_makes_probabilities():
    words = ("softmax", "sigmoid", "log_softmax", "Softmax", "Sigmoid", "logsigmoid", "expit")
    found = {
        str(file.relative_to(SOURCE))
        for file in SOURCE.rglob("*.py")
        if {*code_names(file)} & {*words}
    }
    assert set(ELSEWHERE) == found - {"execution/incremental/rules.py"}


def test_several_scores_are_logits_of_exclusive_classes():
    found = Scores(torch.tensor([[1.0, 3.0, 2.0], [0.0, -1.0, -2.0]]))
    assert not found.is_single
    torch.testing.assert_close(found.probabilities(), found.values.softmax(1))
    assert [1, 0] == found.predicted().tolist()
    assert [3.0, 0.0] == found.predicted_values().tolist()
    assert [[1, 2], [0, 1]] == found.ranked(2).tolist()
    assert (2, 3) == found.ranked(9).shape
    assert not found.rejects()


def test_a_single_score_is_the_logit_of_one_class():
    found = Scores(torch.tensor([[-2.0], [1.0]]))
    assert found.is_single
    torch.testing.assert_close(found.probabilities(), found.values.sigmoid())
    assert [0, 0] == found.predicted().tolist()
    assert [2.0, 1.0] == found.predicted_values().tolist()
    assert [[0], [0]] == found.ranked(5).tolist()
    assert found.rejects()


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 1, 1), (3, 1), (3,)])
def test_scores_are_found_in_every_usual_shape(shape):
    output = torch.rand(shape)
    found = Scores.of(Activations({"output": output}))
    assert torch.equal(output.reshape(3, -1), found.values)


@pytest.mark.parametrize("shape", [(3, 5, 8, 8), (7,), (3, 4, 2)])
def test_what_holds_no_score_a_class_is_refused(shape):
    acts = Activations({"input": torch.rand(3, 3, 8, 8), "output": torch.rand(shape)})
    assert Scores.in_output(acts["output"], 3) is None
    with pytest.raises(TargetError, match=r"Classes are read from scores of shape \(N, K\)"):
        Scores.of(acts)


def test_detections_are_no_scores():
    output = torch.zeros(1, 0, 6).as_subclass(Detections)
    assert Scores.in_output(output, 1) is None
    with pytest.raises(TargetError, match="This network detects objects"):
        Scores.of(Activations({"output": output}))


def test_predict_ranks_by_score_where_probabilities_are_rounded_to_one():
    """Of 1000 and 1200 in float32, both other probabilities are 0: only scores tell them apart."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 4))
    nn.init.zeros_(module[1].weight)
    module[1].bias.data = torch.tensor([0.0, 200.0, 1200.0, 1000.0])
    net = convscope.Network(module, input_size=(4, 4))
    table = convscope.predict(net, torch.rand(1, 3, 4, 4))
    assert [2, 3, 1, 0] == table.column("class")
    assert [1.0, 0.0, 0.0, 0.0] == table.column("probability")


class Single(nn.Module):
    """One score, (N, 1) or (N,)."""

    def __init__(self, bias, *, flat=False):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.flat = nn.Conv2d(3, 4, 3), nn.Linear(4, 1), flat
        nn.init.constant_(self.head.bias, bias)

    def forward(self, x):
        found = self.head(self.conv(x).relu().mean((2, 3)))
        return found[:, 0] if self.flat else found


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("bias", [-0.5, 0.5])
def test_survey_and_predict_agree_on_a_single_score(tmp_path, bias, flat):
    from tests.dataset.conftest import draw

    for k in range(3):
        draw(tmp_path / "photos" / f"{k}.png", k)
    net = convscope.Network(Single(bias, flat=flat), input_size=(16, 16))
    found = convscope.survey(net, tmp_path / "photos", codes=True, out=tmp_path / "out").images
    pixels = torch.cat([net.read(tmp_path / "photos" / f"{k}.png") for k in range(3)])
    expected = torch.tensor(convscope.predict(net, pixels).column("probability"))
    torch.testing.assert_close(expected, found["probability"])
    assert [0, 0, 0] == found["predicted"].tolist()


def test_survey_and_predict_agree_on_several_scores(net, tmp_path):
    from tests.dataset.conftest import draw

    for k in range(3):
        draw(tmp_path / "photos" / f"{k}.png", k)
    found = convscope.survey(net, tmp_path / "photos", codes=True, out=tmp_path / "out").images
    pixels = torch.cat([net.read(tmp_path / "photos" / f"{k}.png") for k in range(3)])
    table = convscope.predict(net, pixels, top=1)
    assert table.column("class") == found["predicted"].tolist()
    torch.testing.assert_close(torch.tensor(table.column("probability")), found["probability"])
