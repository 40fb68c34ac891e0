"""Outputs that are not logits (N, K): refused in one sentence, whose advice works."""

from __future__ import annotations

import re
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_softcam._scores import are_probabilities, as_scores, described, refuse_probabilities, score_table

Pair = namedtuple("Pair", "features logits")


@dataclass
class Output:
    features: Tensor
    logits: Tensor


LOGITS, FEATURES = torch.rand(3, 4), torch.rand(3, 6, 5, 5)
ENTRIES = {  # what a model gives: (how it is described, what the wrapper returns)
    "dict": ({"features": FEATURES, "logits": LOGITS}, "dict with ['features'] (3, 6, 5, 5), ['logits'] (3, 4)"),
    "ordered": (OrderedDict(logits=LOGITS), "OrderedDict with ['logits'] (3, 4)"),
    "tuple": ((FEATURES, LOGITS), "tuple with [0] (3, 6, 5, 5), [1] (3, 4)"),
    "list": ([None, LOGITS], "list with [0] NoneType, [1] (3, 4)"),
    "named tuple": (Pair(FEATURES, LOGITS), "Pair with .features (3, 6, 5, 5), .logits (3, 4)"),
    "dataclass": (Output(FEATURES, LOGITS), "Output with .features (3, 6, 5, 5), .logits (3, 4)"),
    "object": (SimpleNamespace(logits=LOGITS), "SimpleNamespace with .logits (3, 4)"),
}
SHAPES = {(3,): "s = self", (): "", (3, 4, 5, 5): "", (3, 1): "s = self", (1, 3, 4): ""}


def followed(message: str, output: Any) -> Any:
    """What the wrapper returns that a message proposes."""
    code = re.search(r"(s = self.*?; )?return(s|ing)? (self\.model.*|torch\..*)\.$", message)
    names = {"torch": torch, "images": torch.zeros(3, 3, 8, 8), "self": SimpleNamespace(model=lambda _: output)}
    if code[1]:
        exec(code[1].rstrip("; "), names)
    return eval(code[3], names)


@pytest.mark.parametrize(("output", "words"), ENTRIES.values(), ids=ENTRIES)
def test_entries_are_named_and_one_is_proposed(output, words):
    with pytest.raises(ValueError, match="for 3 images; expected logits") as error:
        score_table(output, 3)
    assert str(error.value).startswith(f"the model gives {words} for 3 images; expected logits (N, K): wrap the model")
    assert followed(str(error.value), output) is LOGITS


@pytest.mark.parametrize("shape", [(3,), (3, 4, 5, 5)], ids=str)
def test_advice_for_tensors_works(shape):
    output = torch.rand(shape)
    with pytest.raises(ValueError, match="the model gives") as error:
        score_table(output, 3)
    assert score_table(followed(str(error.value), output), 3).shape[0] == 3


@pytest.mark.parametrize("output", [torch.rand(()), torch.rand(4), torch.rand(6, 4), None, 3.0, [], {}], ids=described)
def test_other_outputs_are_refused_too(output):
    with pytest.raises(ValueError, match=r"the model gives .* for 3 images; expected logits \(N, K\): wrap the model in a"):
        score_table(output, 3)


def test_a_batch_that_was_squeezed_away():
    with pytest.raises(ValueError, match="expected logits") as error:
        score_table(torch.rand(4), 1)
    assert "self.model(images).view(len(images), -1)" in str(error.value)


def test_messages_stay_short():
    wild = {f"entry {i} {'x' * 300}\n\x1b[0m": torch.rand(3, 4) for i in range(100)}
    with pytest.raises(ValueError, match="the model gives dict") as error:
        score_table(wild, 3)
    assert len(str(error.value)) < 500
    assert str(error.value).isprintable()


IMAGES = torch.rand(3, 2, 6, 6, generator=torch.Generator().manual_seed(0))


class Ends(nn.Module):
    """A linear classifier with something behind it."""

    def __init__(self, end, scale: float = 1.0, classes: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.end, self.scale = nn.Linear(72, classes), end, scale

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.scale * self.fc(x.flatten(1)))


SOFTMAX, SIGMOID = "rows that sum to 1 as those of a softmax", "numbers from 0 to 1 as those of a sigmoid"
PROBABILITIES = {
    "softmax": (lambda s: s.softmax(1), SOFTMAX),
    "sure softmax": (lambda s: (200 * s).softmax(1), SOFTMAX),
    "divided": (lambda s: s.exp() / s.exp().sum(1, keepdim=True), SOFTMAX),
    "half": (lambda s: s.bfloat16().softmax(1), SOFTMAX),
    "without gradients": (lambda s: s.detach().softmax(1), SOFTMAX),
    "two of a sigmoid": (lambda s: torch.stack([1 - s[:, 0].sigmoid(), s[:, 0].sigmoid()], 1), SOFTMAX),
    "sigmoid": (lambda s: s.sigmoid(), SIGMOID),
    "sigmoid and a view": (lambda s: s[:, :, None].sigmoid().squeeze(2)[:, :3], SIGMOID),
    "mean of sigmoids": (lambda s: (s.sigmoid() + (2 * s).sigmoid()) / 2, SIGMOID),
    "sigmoid without gradients": (lambda s: s.detach().sigmoid(), SIGMOID),
    "one sigmoid": (lambda s: s[:, :1].sigmoid(), SIGMOID),
    "one sure sigmoid": (lambda s: (20 + s[:, :1]).sigmoid(), SIGMOID),
}


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
@pytest.mark.parametrize(("end", "words"), PROBABILITIES.values(), ids=PROBABILITIES)
def test_probabilities_are_detected_and_the_advice_works(end, words, scores):
    model = Ends(end)
    with torch.no_grad():
        table = model(IMAGES)
    with pytest.raises(ValueError, match=words) as error:
        refuse_probabilities(model, IMAGES, [table, table], scores)
    assert f"scores='{scores}' expects logits; pass scores='identity'" in str(error.value)
    refuse_probabilities(model, IMAGES, [table, table], "identity")
    assert as_scores(table, "identity") is table


LOGITS_ALIKE = {
    "logits": lambda s: s,
    "small logits": lambda s: 0.4 + 0.01 * s,
    "small and linear": nn.Linear(4, 4),
    "logarithms": lambda s: s.log_softmax(1),
    "zeros": lambda s: 0 * s,
    "ones": lambda s: torch.ones_like(s),
    "one of ones": lambda s: torch.ones_like(s[:, :1]),
    "one small and linear": lambda s: nn.functional.linear(s, s.new_full((1, 4), 1e-3), s.new_full((1,), 0.5)),
}


@pytest.mark.parametrize("end", LOGITS_ALIKE.values(), ids=LOGITS_ALIKE)
def test_logits_are_not_mistaken_for_probabilities(end):
    """Also those that happen to lie between 0 and 1 in all images."""
    model = Ends(end)
    if isinstance(end, nn.Linear):
        end.weight.data.mul_(0.01)
        end.bias.data.fill_(0.25)
    with torch.no_grad():
        assert not are_probabilities(model, IMAGES, [model(IMAGES)])


def test_rows_that_sum_to_1_by_chance_are_logits_if_others_do_not():
    table = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    assert not are_probabilities(lambda x: x.new_tensor([[3.0, -1.0]]), IMAGES, [table])
    assert not are_probabilities(lambda x: x.flatten(1)[:, :2] - 3, IMAGES, [table])
    assert not are_probabilities(lambda x: x, IMAGES, [table, torch.tensor([[-0.1, 1.1]])])


def test_rows_that_are_not_finite_do_not_count():
    model = Ends(lambda s: s.softmax(1))
    table = model(IMAGES).detach()
    table[0] = torch.nan
    assert are_probabilities(model, IMAGES, [table])
    assert not are_probabilities(model, IMAGES, [table[:1]])
