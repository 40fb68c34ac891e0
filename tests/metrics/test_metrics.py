"""The metrics against their literal versions, on signed maps with ties."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from torch import nn

from captum_softcam.metrics import METRICS, PatchGame

ORACLES = {
    "pointing_game": oracles.pointing_game,
    "relevance_mass_accuracy": oracles.relevance_mass,
    "relevance_rank_accuracy": oracles.relevance_rank,
    "pixel_auc": oracles.localisation_auc,
}


@pytest.fixture
def maps() -> np.ndarray:
    """Signed maps (6, 1, 9, 11) whose values repeat."""
    return np.random.default_rng(0).integers(-5, 6, (6, 1, 9, 11)).astype(np.float32)


@pytest.fixture
def masks() -> np.ndarray:
    return np.random.default_rng(1).random((6, 1, 9, 11)) < 0.3


@pytest.fixture
def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    ).eval()


@pytest.fixture
def pictures() -> torch.Tensor:
    """Three images of 20 x 27 pixels, so that patches are not all of one size."""
    return torch.rand(3, 3, 20, 27, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", ORACLES)
def test_localisation_equals_the_oracle(name, maps, masks):
    want = [ORACLES[name](m.ravel().tolist(), s.ravel().tolist()) for m, s in zip(maps, masks, strict=True)]
    np.testing.assert_allclose(METRICS[name].localise(maps, masks), want, atol=1e-12)


def _owners(height: int, width: int) -> list[int]:
    """The patch of every pixel, in reading order."""
    return [(i * 8 // height) * 8 + j * 8 // width for i in range(height) for j in range(width)]


def _score(model: nn.Module, image: torch.Tensor, blurred: torch.Tensor, taken: list[int]) -> torch.Tensor:
    """Scores (K,) of one image with the patches ``taken`` of its 8 x 8 blurred."""
    gone = torch.isin(torch.tensor(_owners(*image.shape[1:])), torch.tensor(taken, dtype=torch.long))
    with torch.no_grad():
        return model(torch.where(gone.view(image.shape[1:]), blurred, image)[None])[0]


def _patch_sums(attribution: np.ndarray) -> list[float]:
    sums = [0.0] * 64
    for owner, value in zip(_owners(*attribution.shape), attribution.ravel().tolist(), strict=True):
        sums[owner] += value
    return sums


def _blurred(game: PatchGame) -> torch.Tensor:
    """What the game shows where every patch is taken."""
    return game._players[2]


def test_region_perturbation_equals_the_oracle(small, pictures):
    attributions = np.random.default_rng(3).normal(size=(3, 1, 20, 27)).astype(np.float32)
    targets, game = np.array([2, 0, 1]), PatchGame(small, pictures)
    got = METRICS["region_perturbation"].test(attributions, targets, game, seed=0)
    for i in range(3):
        sums = _patch_sums(attributions[i, 0])
        order = sorted(range(64), key=lambda p: -sums[p])
        scores = [_score(small, pictures[i], _blurred(game)[i], order[:n]).softmax(0)[targets[i]] for n in range(33)]
        want = oracles.region_perturbation([float(scores[0] - score) for score in scores[1:]])
        assert got[i] == pytest.approx(want, abs=1e-6)


def test_faithfulness_correlation_equals_the_oracle(small, pictures):
    attributions = np.random.default_rng(3).normal(size=(3, 1, 20, 27)).astype(np.float32)
    targets, game = np.array([2, 0, 1]), PatchGame(small, pictures)
    got = METRICS["faithfulness_correlation"].test(attributions, targets, game, seed=5)
    stream = np.random.RandomState(5)
    subsets = [[stream.choice(64, 16, replace=False).tolist() for _ in range(3)] for _ in range(200)]
    for i in range(3):
        whole = _score(small, pictures[i], _blurred(game)[i], [])[targets[i]]
        drops = [
            (run[i], float(whole - _score(small, pictures[i], _blurred(game)[i], run[i])[targets[i]])) for run in subsets
        ]
        want = oracles.faithfulness_correlation(_patch_sums(attributions[i, 0]), drops)
        assert got[i] == pytest.approx(want, abs=1e-4), "float32 sums of 200 runs"


def test_the_board_shows_and_takes(small, pictures):
    game = PatchGame(small, pictures)
    ones = torch.ones(3, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(game(ones), small(pictures))
        torch.testing.assert_close(game(0 * ones), small(_blurred(game)))
    assert (_blurred(game) - pictures).abs().max() > 0.1, "the blur must take something away"


def test_shares_add_up(small, pictures):
    maps = np.random.default_rng(0).normal(size=(3, 1, 20, 27))
    shares = PatchGame(small, pictures).shares(maps)
    np.testing.assert_allclose(shares.sum((1, 2, 3)), maps.sum((1, 2, 3)))
    np.testing.assert_allclose(shares[1].ravel(), _patch_sums(maps[1, 0]))


def test_a_board_that_comes_again_costs_nothing(small, pictures):
    calls = []
    small.register_forward_hook(lambda *_: calls.append(1))
    game, metric = PatchGame(small, pictures), METRICS["faithfulness_correlation"]
    maps = np.random.default_rng(0).normal(size=(3, 1, 20, 27))
    metric.test(maps, np.zeros(3, int), game, seed=0)
    assert len(calls) == 201, "200 random subsets and the whole image"
    metric.test(maps**2, np.zeros(3, int), game, seed=0)
    assert len(calls) == 201


def test_numpys_random_state_is_given_back(small, pictures):
    before = np.random.get_state()[1].copy()
    METRICS["faithfulness_correlation"].test(
        np.random.default_rng(0).normal(size=(3, 1, 20, 27)), np.zeros(3, int), PatchGame(small, pictures), 7
    )
    assert (np.random.get_state()[1] == before).all()


def test_a_map_of_negative_evidence_alone_has_no_mass(maps, masks):
    scores = METRICS["relevance_mass_accuracy"].localise(np.concatenate([maps[:1], -np.abs(maps[:1])]), masks[:2])
    assert np.isfinite(scores[0])
    assert np.isnan(scores[1])


@pytest.mark.parametrize("name", METRICS)
def test_the_right_map_beats_its_negative(name):
    """The model reads the mean of the upper left quarter; the map says so, its negative says the opposite."""

    class Quarter(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            score = 20 * x[:, :, :8, :8].var((1, 2, 3))
            return torch.stack([score, -score], 1)

    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    marks = np.full((2, 1, 16, 16), -1.0, np.float32)
    marks[:, :, :8, :8] = 1
    metric = METRICS[name]
    if metric.category == "localisation":
        right, wrong = (metric.localise(sign * marks, marks > 0) for sign in (1, -1))
    else:
        game = PatchGame(Quarter().eval(), images)
        right, wrong = (metric.test(sign * marks, np.zeros(2, int), game, 0) for sign in (1, -1))
    assert ((right > wrong) == metric.higher_is_better).all()


def test_a_closed_game_lets_go_of_the_model(small, pictures):
    game = PatchGame(small, pictures)
    game.close()
    with pytest.raises(ValueError, match="unpack"):
        game(torch.ones(3, 1, 8, 8))


def test_too_small_an_image_is_refused(small):
    with pytest.raises(ValueError, match="an image side of 6 pixels cannot be cut into 8 patches"):
        PatchGame(small, torch.rand(1, 3, 6, 20))
