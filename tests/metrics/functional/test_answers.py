"""Every function that asks a model: what it refuses to read, and what one broken sample does to the others."""

from __future__ import annotations

import math

import pytest
import torch
from metric_calls import call, parameters
from torch import Tensor

from captum_softcam.metrics import functional as scores

ASKING = [name for name in scores.__all__ if "forward_func" in parameters(name)]
ENDS = {
    "one logit": (lambda s: s[:, :1], "the model gives a single logit"),
    "softmax": (lambda s: s.softmax(1), "the model gives probabilities, rows that sum to 1"),
    "sigmoid": (lambda s: s.sigmoid(), "the model gives probabilities, numbers from 0 to 1"),
    "(N,)": (lambda s: s[:, 0], r"the model gives \(4,\) for 4 images; expected logits \(N, K\): wrap the model"),
    "tuple": (lambda s: (s, s), r"the model gives tuple with \[0\] \(4, 3\)"),
    "dict": (lambda s: {"logits": s}, r"self\.model\(images\)\['logits'\]"),
}


@pytest.mark.parametrize("name", ASKING)
@pytest.mark.parametrize(("end", "words"), ENDS.values(), ids=ENDS)
def test_what_is_no_logits(name, end, words, model, images, maps):
    with pytest.raises(ValueError, match=words):
        call(name, lambda x: end(model(x)), images, maps, torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize("name", ASKING)
def test_a_class_that_the_model_does_not_have(name, model, images, maps):
    for target in (-1, 3):
        with pytest.raises(ValueError, match="the model gives 3 logits, so classes 0 to 2"):
            call(name, model, images, maps, torch.tensor([0, 1, target, 2]))


@pytest.mark.parametrize("name", ASKING)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("of", ["images", "maps"])
def test_a_broken_sample_takes_itself_alone(name, value, of, model, images, maps, targets):
    if name == "confidence" and of == "maps":
        return
    others = [0, 2, 3]
    alone = call(name, model, images[others], maps[others], targets[others])
    (images if of == "images" else maps)[1, 0, 3, 3] = value
    together = call(name, model, images, maps, targets)
    torch.testing.assert_close(together[others], alone, equal_nan=True)
    assert together[1].isnan()


def test_a_model_that_breaks_on_an_altered_image_leaves_no_number(images, maps, targets):
    """Not 0, as comparisons with NaN are, and not the class that an argmax of NaN is."""

    def breaks(x: Tensor) -> Tensor:
        flat = x.flatten(1)[:, :3] * 1.0
        return flat.masked_fill((x == 0).flatten(1).any(1)[:, None], math.nan)

    assert scores.monotonicity(breaks, images, maps, targets, images * 0, patches=4).isnan().all()
    assert scores.road_curve(lambda x: x.flatten(1)[:, :3] * math.nan, images, maps, targets).isnan().all()
