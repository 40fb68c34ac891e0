"""Complexity against its literal versions, and what must hold for every map."""

from __future__ import annotations

import math

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_softcam.metrics.functional import complexity, effective_complexity, insertion_curve, sparseness, step_fractions

values = st.lists(st.integers(-5, 5), min_size=2, max_size=9).filter(lambda v: min(v) < max(v))


@given(values)
def test_equals_the_oracle(cells):
    maps = torch.tensor(cells, dtype=torch.float64).view(1, 1, -1)
    assert sparseness(maps).item() == pytest.approx(oracles.gini(cells), abs=1e-12)
    assert complexity(maps).item() == pytest.approx(oracles.entropy(cells), abs=1e-12)


@given(values, st.integers(-20, 20), st.data())
def test_scale_sign_place_and_copies_do_not_matter(cells, power, data):
    maps = torch.tensor(cells, dtype=torch.float64).view(1, 1, -1)
    order = data.draw(st.permutations(range(len(cells))))
    signs = torch.tensor(data.draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=len(cells), max_size=len(cells))))
    for same in (maps * 2.0**power, maps[..., order], -maps, torch.cat([maps, maps], 2)):
        torch.testing.assert_close(sparseness(same), sparseness(maps))
    if len({*(maps * signs).flatten().tolist()}) > 1:
        torch.testing.assert_close(sparseness(maps * signs), sparseness(maps))


def test_one_position_is_the_sparsest():
    assert sparseness(torch.eye(4).view(4, 1, 2, 2)).tolist() == [0.75] * 4
    assert sparseness(torch.tensor([[[1.0, -1.0]]])).item() == 0, "magnitudes are equal"


def test_entropy_runs_from_one_position_to_all():
    assert complexity(torch.eye(4).view(4, 1, 2, 2)).tolist() == [0] * 4
    assert complexity(torch.tensor([[[1.0, -1.0, 1.0, -1.0]]])).item() == pytest.approx(math.log(4))


@pytest.mark.parametrize("tolerance", [0.0, 0.1, 0.5])
def test_effective_complexity_is_the_first_point_that_suffices(tolerance, model, images, maps, targets):
    game = model, images, maps, targets, torch.zeros((), dtype=images.dtype)
    curves = insertion_curve(*game, patches=3, steps=5).tolist()
    fractions = step_fractions((7, 9), patches=3, steps=5).tolist()
    want = [oracles.effective_complexity(curve, fractions, tolerance) for curve in curves]
    got = effective_complexity(*game, patches=3, steps=5, tolerance=tolerance)
    assert got.tolist() == pytest.approx(want)
    assert len(set(want)) > 1


def test_effective_complexity_of_values_below_zero(images, maps, targets):
    falling = lambda x: -1 - x.flatten(2).mean(2)[:, :1]  # noqa: E731 - shown patches lower it
    game = falling, images, maps, 0 * targets, torch.zeros((), dtype=images.dtype)
    assert effective_complexity(*game, patches=2, steps=4, scores="identity").tolist() == [0] * 4


def test_refusals(model, images, maps, targets):
    with pytest.raises(ValueError, match=r"tolerance must be a fraction in \[0, 1\); got 1"):
        effective_complexity(model, images, maps, targets, torch.zeros(()), tolerance=1)
    with pytest.raises(ValueError, match="one map per sample"):
        sparseness(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match=r"maps are \(2, 1\); expected \(N, 1, ...\)"):
        sparseness(torch.zeros(2, 1))
