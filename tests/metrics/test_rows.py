"""The rows of the comparison: what each plays, what it costs, and that no sample's score depends on the others."""

from __future__ import annotations

import importlib
import json
import re
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor, nn

from captum_softcam._maps import rescale
from captum_softcam.metrics import METRICS, Batch, Curve, Explanation, MosaicPool, PatchGame, functional
from captum_softcam.metrics.patches import image_seed

TARGETS = torch.tensor([2, 0, 1, 2, 1])
PLAYED = {  # rows that are functions of images and maps, on patches that the batch's blur replaces
    "faithfulness_correlation": functional.faithfulness_correlation,
    "infidelity": functional.infidelity,
    "monotonicity": functional.monotonicity,
    "monotonicity_correlation": functional.monotonicity_correlation,
    "sensitivity_n": functional.sensitivity_n,
}
SIGNLESS = {  # rows of which a map's negative may have the better score
    *(name for name, metric in METRICS.items() if metric.category == "robustness"),  # compare maps of one method
    "completeness",  # in units of the logit
    "complexity",
    "flip_symmetry",
    "insensitivity",  # reads magnitudes
    "coherency",  # ask neither the model nor a mask
    "map_complexity",
    "sparseness",
    "monotonicity",  # evidence that is all in favour lets the curve rise in any order
    "monotonicity_correlation",  # reads magnitudes
    "grid_pointing_game",  # of other images, other networks or another class
    "mprt",
    "mprt_independent",
    "mprt_ssim",
    "random_logit",
}
DRAWN = {"faithfulness_correlation", "sensitivity_n"}


@pytest.fixture
def small() -> nn.Module:
    """Three classes that differ by place and colour, and are sure enough of themselves."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 3)
    with torch.no_grad():
        layers[-1].weight *= 20
        layers[-1].weight.view(3, 4, 9)[..., 0] = 0  # the upper left is ignored
    return nn.Sequential(*layers).eval()


@pytest.fixture
def pictures() -> Tensor:
    """Images of 20 x 27 pixels, so that patches are not all of one size."""
    waves = torch.linspace(0, 30, 5 * 20 * 27).sin().view(5, 1, 20, 27)
    return (0.5 + 0.3 * waves + 0.2 * torch.rand(5, 3, 20, 27, generator=torch.Generator().manual_seed(2))).contiguous()


@pytest.fixture
def maps() -> Tensor:
    """Signed maps; one with ties."""
    made = torch.randn(5, 1, 20, 27, generator=torch.Generator().manual_seed(3))
    made[1] = made[1].round()
    return made


@pytest.fixture
def masks() -> Tensor:
    return torch.rand(5, 1, 20, 27, generator=torch.Generator().manual_seed(4)) < 0.2


def explain(images: Tensor, **_: object) -> Tensor:
    """A method whose map is another for another image."""
    return images[:, :1] - images[:, 1:2]


POOL = MosaicPool(torch.rand(3, 3, 20, 27, generator=torch.Generator().manual_seed(5)), (frozenset(),) * 3)


def explanation(model, images, maps, masks=None, targets=TARGETS, scale=1.0, **settings) -> Explanation:
    mosaics = partial(POOL.make, images, targets, map(image_seed, images))
    batch = Batch(model, images, targets, masks, mosaics=mosaics, **settings)
    return Explanation(batch, maps, lambda versions, **_: scale * explain(versions))


def score(name: str, *arguments, **settings) -> Tensor:
    answer = METRICS[name].measure(explanation(*arguments, **settings))
    return answer.area if isinstance(answer, Curve) else answer


def blurred(batch: Batch) -> Tensor:
    """What the game shows where every patch is taken."""
    return functional.blur_baseline(batch.images, sigma=27 / 8)


@pytest.mark.parametrize("name", METRICS)
def test_a_sample_is_scored_as_if_alone(name, small, pictures, maps, masks):
    maps[2], maps[3, 0, 4, 4], masks[4] = 3.0, torch.nan, False
    together = score(name, small, pictures, maps, masks)
    parts = [slice(i, i + 1) for i in range(5)]
    alone = [score(name, small, pictures[p], maps[p], masks[p], TARGETS[p]) for p in parts]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5, equal_nan=True)
    assert together.shape == (5,)
    assert together[[2, 3]].isnan().all(), "flat and broken maps rank nothing"
    assert together[[0, 1]].isfinite().all()
    assert together[4].isnan() == METRICS[name].needs_mask, "nothing to find in an empty mask"


@pytest.mark.parametrize("name", METRICS)
def test_a_batch_of_flat_maps_alone(name, small, pictures, maps, masks):
    assert score(name, small, pictures, torch.full_like(maps, -2.0), masks).isnan().all()


@pytest.mark.parametrize("name", METRICS)
def test_the_other_maps_scale_does_not_matter(name, small, pictures, maps, masks):
    """Maps of negative values alone, and of any unit, go through; those that weigh evidence have none to weigh."""
    whole = score(name, small, pictures, maps, masks)
    if name != "completeness":  # the axiom of a map in units of the logit
        torch.testing.assert_close(score(name, small, pictures, 1e3 * maps, masks, scale=1e3), whole, atol=1e-4, rtol=1e-4)
    negative = score(name, small, pictures, maps - 10, masks)
    assert negative.isfinite().all() or negative.isnan().all() or name == "activation_sensitivity"


@pytest.mark.parametrize("name", METRICS)
def test_nothing_else_is_touched(name, small, pictures, maps, masks):
    before = [np.random.get_state()[1].copy(), torch.random.get_rng_state()]
    kept = [each.clone() for each in (pictures, maps, masks)]
    METRICS[name].measure(explanation(small, pictures, maps, masks))
    assert (np.random.get_state()[1] == before[0]).all()
    assert torch.equal(torch.random.get_rng_state(), before[1])
    torch.testing.assert_close([pictures, maps, masks], kept)


@pytest.mark.parametrize("name", METRICS)
def test_cost(name, small, pictures, maps, masks):
    """No more forwards and maps than the row says: fewer only where a random subset was drawn twice."""
    forwards, attributions = [], []
    with torch.no_grad():
        logits = small(pictures)
    small.register_forward_hook(lambda _module, inputs, _output: forwards.append(len(inputs[0])))
    asked = explanation(small, pictures, maps, masks, outputs=logits)
    asked.explain = lambda images, **_: attributions.append(1) or explain(images)
    metric = METRICS[name]
    metric.measure(asked)
    stages = {"mprt": 2, "mprt_independent": 2, "mprt_ssim": 2}  # of a network of two layers with weights
    assert len(attributions) == stages.get(name, metric.attributions)
    assert set(forwards) <= {1 if name == "completeness" else 5}, "an empty image is the same for all samples"
    if name == "sensitivity_n":
        assert metric.forwards - 50 < len(forwards) <= metric.forwards
    else:
        assert len(forwards) == metric.forwards


def test_all_metrics_together_ask_for_less(small, pictures, maps, masks):
    """Boards come again from metric to metric, and random subsets from method to method."""
    calls = []
    small.register_forward_hook(lambda *_: calls.append(1))
    first = explanation(small, pictures, maps, masks)
    for metric in METRICS.values():
        metric.measure(first)
    assert len(calls) < 0.8 * sum(metric.forwards for metric in METRICS.values())
    calls.clear()
    second = Explanation(first.batch, maps.flip(2), explain)
    for name in ("faithfulness_correlation", "sensitivity_n", "infidelity", "monotonicity_correlation"):
        METRICS[name].measure(second)
    assert not calls


@pytest.mark.parametrize("name", ["deletion", "insertion"])
def test_curves_are_those_of_the_images(name, small, pictures, maps):
    asked = explanation(small, pictures, maps)
    got = METRICS[name].measure(asked)
    curve = getattr(functional, f"{name}_curve")
    want = curve(small, pictures, maps, TARGETS, blurred(asked.batch), patches=8, steps=16)
    torch.testing.assert_close(got.points, want, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(got.fractions, torch.linspace(0, 1, 17))
    torch.testing.assert_close(got.area, functional.area_under_curve(want, got.fractions), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", PLAYED)
def test_the_board_says_what_the_images_say(name, small, pictures, maps):
    asked = explanation(small, pictures, maps, seed=7)
    settings = dict(METRICS[name].settings) | ({"seed": 7} if name in DRAWN else {})
    assert settings.pop("perturb_baseline") == "blur"
    want = PLAYED[name](small, pictures, maps, TARGETS, blurred(asked.batch), patches=8, **settings)
    torch.testing.assert_close(METRICS[name].measure(asked), want, atol=1e-5, rtol=1e-5, check_dtype=False)


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_the_seed_of_the_trial_draws(name, small, pictures, maps):
    first, again, other = (score(name, small, pictures, maps, seed=seed) for seed in (0, 0, 1))
    torch.testing.assert_close(first, again)
    assert (first - other).abs().max() > 1e-3


def test_road(small, pictures, maps):
    got = METRICS["road"].measure(explanation(small, pictures, maps, seed=3))
    fractions = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    want = functional.road_curve(small, pictures, maps, TARGETS, fractions=fractions, seed=3)
    torch.testing.assert_close(got.points[:, 1:], want)
    with torch.no_grad():
        assert got.points[:, 0].tolist() == (small(pictures).argmax(1) == TARGETS).tolist()
    torch.testing.assert_close(got.fractions, torch.tensor([0.0, *fractions]))


def test_irof(small, pictures, maps):
    mean, segments = functional.mean_baseline(pictures), functional.superpixels(pictures)
    want = functional.irof(small, pictures, maps, TARGETS, mean, segments, steps=16)
    torch.testing.assert_close(score("irof", small, pictures, maps), want)


def test_the_adcc_family(small, pictures, maps):
    before = functional.confidence(small, pictures, TARGETS)
    after = functional.masked_confidence(small, pictures, maps, TARGETS)
    want = {
        "average_drop": functional.average_drop(before, after),
        "increase_in_confidence": functional.increase_in_confidence(before, after),
        "coherency": functional.coherency(maps, explain(functional.masked_images(pictures, maps))),
        "map_complexity": functional.map_complexity(maps),
    }
    want["adcc"] = functional.adcc(want["average_drop"], want["coherency"], want["map_complexity"])
    want["sparseness"] = functional.sparseness(maps)
    for name, scores in want.items():
        torch.testing.assert_close(score(name, small, pictures, maps), scores)


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.needs_mask])
def test_localisation_rows_are_functions_of_map_and_mask(name, small, pictures, maps, masks):
    want = getattr(functional, name)(maps, masks)
    torch.testing.assert_close(score(name, small, pictures, maps, masks), want)
    assert score(name, small, pictures, maps).isnan().all(), "without any mask"


def _falls(model: nn.Module, image: Tensor, gone: Tensor, target: int, taken: list[int]) -> tuple[float, float]:
    """How far logit and probability of one image fall when some of its 8 x 8 patches are blurred."""
    places = {divmod(patch, 8) for patch in taken}
    shown = oracles.without_patches(image, gone, places, 8)
    with torch.no_grad():
        logits = float(model(image[None])[0, target] - model(shown[None])[0, target])
        return logits, oracles.probability(model, image, target) - oracles.probability(model, shown, target)


def _patch_values(values: Tensor) -> tuple[list[float], list[float]]:
    """Sum and mean of a map (H, W) over each of 8 x 8 patches."""
    sums, counts = [0.0] * 64, [0] * 64
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            a, b = oracles.patch_of((i, j), list(values.shape), 8)
            sums[8 * a + b] += float(values[i, j])
            counts[8 * a + b] += 1
    return sums, [total / count for total, count in zip(sums, counts, strict=True)]


@pytest.mark.parametrize("i", [0, 1])
def test_patch_by_patch(small, pictures, maps, i):
    """By loops: one sample without, one with equal values."""
    asked = explanation(small, pictures, maps)
    image, gone, target = pictures[i], blurred(asked.batch)[i], int(TARGETS[i])
    sums, means = _patch_values(maps[i, 0])
    order = sorted(range(64), key=lambda patch: -means[patch])
    falls = [_falls(small, image, gone, target, order[:n])[1] for n in range(65)]
    whole = oracles.probability(small, image, target)
    tenth = METRICS["region_perturbation"].measure(asked)[i].item()
    assert tenth == pytest.approx(oracles.region_perturbation(falls[1:33]), abs=1e-5)
    flipped = METRICS["pixel_flipping"].measure(asked)
    assert flipped.points[i].tolist() == pytest.approx([whole - fall for fall in falls], abs=1e-5)
    assert flipped.fractions.tolist() == pytest.approx([n / 64 for n in range(65)])
    single = [_falls(small, image, gone, target, [patch])[0] for patch in range(64)]
    estimate = METRICS["faithfulness_estimate"].measure(asked)[i].item()
    assert estimate == pytest.approx(oracles.pearson(sums, single), abs=1e-4)


def test_selectivity(small, pictures, maps):
    """Blocks of 2 x 2 patches, by their sums."""
    asked = explanation(small, pictures, maps)
    got = METRICS["selectivity"].measure(asked)
    sums, _ = _patch_values(maps[0, 0])
    blocks = [[16 * a + 2 * b + 8 * c + d for c in (0, 1) for d in (0, 1)] for a in range(4) for b in range(4)]
    blocks.sort(key=lambda block: -sum(sums[patch] for patch in block))
    whole = oracles.probability(small, pictures[0], 2)
    want = [whole]
    for n in range(1, 17):
        taken = [patch for block in blocks[:n] for patch in block]
        want.append(whole - _falls(small, pictures[0], blurred(asked.batch)[0], 2, taken)[1])
    assert got.points[0].tolist() == pytest.approx(want, abs=1e-5)
    with pytest.raises(ValueError, match="a side of 7 patches cannot be cut into blocks of 2; expected a multiple of 2"):
        METRICS["selectivity"].measure(explanation(small, pictures, maps, patches=7))


class Played(nn.Module):
    """A game of patches as a model; hidden from modules(), where Quantus looks for softmax layers."""

    def __init__(self, game: PatchGame) -> None:
        super().__init__()
        self._game = game

    def forward(self, board: Tensor) -> Tensor:
        return self._game(board.view_as(self._game.full_board))


@pytest.mark.parametrize(
    ("row", "name", "settings"),
    [
        ("region_perturbation", "RegionPerturbation", {"patch_size": 1, "regions_evaluation": 32}),
        ("faithfulness_estimate", "FaithfulnessEstimate", {"features_in_step": 1}),
        ("pixel_flipping", "PixelFlipping", {"features_in_step": 1}),
        ("selectivity", "Selectivity", {"patch_size": 2}),
    ],
)
def test_quantus_gives_the_same_on_the_board(row, name, settings, small, pictures, maps):
    """Where patches have no equal values, whose order Quantus leaves to the sort."""
    asked = explanation(small, pictures, torch.randn(maps.shape, generator=torch.Generator().manual_seed(3)))
    values = asked.patch_means if row in ("region_perturbation", "pixel_flipping") else asked.patch_sums
    board = asked.batch.game.full_board
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantus = importlib.import_module("quantus")
    metric = getattr(quantus, name)(
        **settings, perturb_baseline=0.0, abs=False, normalise=False, return_aggregate=False, disable_warnings=True
    )
    answer = metric(
        Played(asked.batch.game).eval(),
        board.numpy(),
        TARGETS.numpy(),
        rescale(values).numpy(),
        channel_first=True,
        softmax=row != "faithfulness_estimate",
    )
    want, got = torch.tensor(np.asarray(answer, np.float64)), METRICS[row].measure(asked)
    if isinstance(got, Curve):
        torch.testing.assert_close(got.points[:, 1:], want, atol=1e-6, rtol=0, check_dtype=False)
        torch.testing.assert_close(got.points[:, 0], asked.batch.confidence)
    elif row == "region_perturbation":
        torch.testing.assert_close(got, want.sum(1) / 33, atol=1e-6, rtol=0, check_dtype=False)
    else:
        torch.testing.assert_close(got, want, atol=1e-6, rtol=0, check_dtype=False)


@pytest.mark.parametrize("name", ["faithfulness_correlation", "sensitivity_n", "faithfulness_estimate"])
def test_a_model_that_never_moves_leaves_correlations_undefined(name, pictures, maps):
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.new_ones(len(x), 3)

    assert score(name, Constant().eval(), pictures, maps).isnan().all()


class Corner(nn.Module):
    """Sure of class 0 as far as the upper left quarter is bright and rough, and the rest is dark."""

    def forward(self, x: Tensor) -> Tensor:
        quarter = x[..., : x.shape[-2] // 2, : x.shape[-1] // 2].flatten(1)
        logit = 20 * quarter.var(1) + 6 * quarter.mean(1) - 4 * x.flatten(1).mean(1)
        return torch.stack([logit, torch.full_like(logit, 2.5)], 1)


@pytest.mark.parametrize("name", sorted(METRICS.keys() - SIGNLESS))
def test_the_right_map_beats_its_negative(name):
    """The map says where the model looks; its negative says the opposite."""
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    marks = -1 + 0.1 * torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    marks[:, :, :16, :16] *= -1
    batch = Batch(Corner().eval(), images, torch.zeros(2, dtype=torch.long), marks > 0)
    right, wrong = (
        METRICS[name].measure(Explanation(batch, sign * marks, lambda *_, sign=sign, **__: sign * marks)) for sign in (1, -1)
    )
    if isinstance(right, Curve):
        right, wrong = right.area, wrong.area
    assert ((right > wrong) == METRICS[name].higher_is_better).all()


SIZES = [(80,), (40,), (16, 17, 18), (8, 8, 8), (3, 16, 16), (8, 8), (5, 6), (8, 64), (4, 256), (1, 40), (2, 3)]


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_signals_volumes_and_images_of_any_size(name, shape):
    """64 patches of large ones, fewer of small ones, and the settings that count patches follow."""
    generator = torch.Generator().manual_seed(0)
    images, maps = (torch.randn(2, channels, *shape, generator=generator) for channels in (2, 1))
    weights = torch.randn(3, images[0].numel(), generator=generator) / images[0].numel() ** 0.5
    weights.view(3, 2, *shape)[..., : shape[-1] // 2] = 0  # ignored
    masks = torch.zeros(2, 1, *shape, dtype=torch.bool)
    masks.flatten(1)[:, 1:3] = True

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = nn.Parameter(weights)

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ self.weights.T

    targets = torch.tensor([0, 1])
    mosaics = partial(MosaicPool(images, (frozenset({2}),) * 2).make, images, targets, [0, 1])
    batch = Batch(Linear().eval(), images, targets, masks, mosaics=mosaics)
    asked = Explanation(batch, maps, lambda x, **_: x[:, :1] ** 2)
    if name == "selectivity" and any(count % 2 for count in asked.batch.counts):
        with pytest.raises(ValueError, match="cannot be cut into blocks of 2"):
            METRICS[name].measure(asked)
    elif name == "top_k_localisation_precision" and min(shape) < 4 and len(shape) == 2:
        with pytest.raises(ValueError, match="k must be from 1 to the number of patches"):
            METRICS[name].measure(asked)
    else:
        answer = METRICS[name].measure(asked)
        assert (answer.area if isinstance(answer, Curve) else answer).isfinite().all()


def test_patches_are_64_in_any_number_of_dimensions():
    settings = {"subset_size": 16, "runs": 200, "perturb_baseline": "blur"}
    for shape, counts in (((100,), [64]), ((30, 40), [8, 8]), ((9, 9, 9), [4, 4, 4]), ((40,), [40]), ((4, 20), [4, 8])):
        batch = Batch(nn.Identity(), torch.rand(1, 1, *shape), torch.tensor([0]))
        assert batch.counts == counts
        asked = Explanation(batch, torch.rand(1, 1, *shape), explain)
        fraction = min(64, int(np.prod(counts))) / 64
        assert METRICS["faithfulness_correlation"].settings_for(asked) == settings | {"subset_size": int(16 * fraction)}


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("of", ["image", "map"])
def test_a_broken_sample_takes_itself_alone(name, value, of, small, pictures, maps, masks):
    """One value that is not finite, in an image or a map, in the middle of the batch."""
    others = [0, 1, 3, 4]
    alone = score(name, small, pictures[others], maps[others], masks[others], TARGETS[others])
    (pictures if of == "image" else maps)[2, 0, 4, 4] = value
    together = score(name, small, pictures, maps, masks)
    torch.testing.assert_close(together[others], alone, atol=1e-5, rtol=1e-5, equal_nan=True)
    assert together[2].isnan()


@pytest.mark.parametrize("shape", [(5, 3, 20, 27), (5, 1, 27, 20), (4, 1, 20, 27), (5, 20, 27), (5, 1, 10, 13)], ids=str)
def test_maps_of_another_shape_are_refused_before_any_metric(small, pictures, shape):
    with pytest.raises(ValueError, match="expected"):
        explanation(small, pictures, torch.rand(shape))


def test_rows_say_what_a_table_needs():
    bibliography = (Path(__file__).parents[2] / "docs" / "references.bib").read_text()
    known = set(re.findall(r"^@\w+\{(\w+),$", bibliography, re.MULTILINE))
    assert len({metric.title for metric in METRICS.values()}) == len(METRICS)
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.source in known
        assert json.loads(json.dumps(dict(metric.settings))) == dict(metric.settings)
        assert (metric.category != "localisation") or not metric.forwards


def test_the_metrics_taken_unasked():
    assert [name for name, metric in METRICS.items() if metric.default] == [
        "pointing_game",
        "relevance_mass_accuracy",
        "relevance_rank_accuracy",
        "pixel_auc",
        "deletion",
        "insertion",
        "faithfulness_correlation",
        "region_perturbation",
    ]


def test_the_board_shows_and_takes(small, pictures):
    game = Batch(small, pictures, TARGETS).game
    ones = torch.ones(5, 1, 8, 8)
    gone = functional.blur_baseline(pictures, sigma=27 / 8)
    with torch.no_grad():
        torch.testing.assert_close(game(ones), small(pictures))
        torch.testing.assert_close(game(0 * ones), small(gone))
        torch.testing.assert_close(game(0.5 * ones), small((gone + pictures) / 2))
    assert (gone - pictures).abs().max() > 0.1, "the blur must take something away"


def test_a_board_that_comes_again_costs_nothing(small, pictures):
    calls = []
    small.register_forward_hook(lambda *_: calls.append(1))
    game = PatchGame(small, pictures, torch.zeros(()), scores=torch.ones(5, 3))
    assert game(game.full_board).eq(1).all(), "what the model says of the images is known"
    assert not calls
    game(game.full_board * 0)
    game(game.full_board * 0)
    assert len(calls) == 1


def test_a_trial_asks_once_for_what_is_shared(small, pictures, maps):
    calls = []
    small.register_forward_hook(lambda *_: calls.append(1))
    batch = Batch(small, pictures, TARGETS)
    first, second = (Explanation(batch, each, explain) for each in (maps, -maps))
    for each in (first, second):
        for name in ("average_drop", "increase_in_confidence", "adcc"):
            METRICS[name].measure(each)
    assert len(calls) == 3, "the images, and what each of two maps leaves of them"


def test_too_small_an_image_is_refused(small):
    with pytest.raises(ValueError, match="a side of 6 positions cannot be cut into 8 patches"):
        _ = Batch(small, torch.rand(1, 3, 6, 20), torch.tensor([0]), patches=8).game
