"""What replaces the removed parts of an image: the baselines by name, and the imputation on cells."""

from __future__ import annotations

import math
from functools import partial

import oracles
import pytest
import torch
from torch import Tensor

from captum_softcam.metrics import BASELINES, METRICS, Batch, Explanation, Metric, PatchGame, find_metric, functional
from captum_softcam.metrics.functional._grid import expand_patches

PLAYED = [name for name, metric in METRICS.items() if metric.perturbs]


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def board(*holes: int, counts: tuple[int, ...] = (4, 4), size: tuple[int, ...] = (12, 20)) -> Tensor:
    """Removed positions (1, 1, ...), from the numbers of removed patches."""
    removed = torch.zeros(math.prod(counts), dtype=torch.bool)
    removed[list(holes)] = True
    return expand_patches(removed.view(1, *counts), size)


def model(images: Tensor) -> Tensor:
    weights = image(images[0].numel(), 3, seed=9).to(images) - 0.5
    return images.flatten(1) @ weights


def batch(images: Tensor, **more) -> Batch:
    return Batch(model, images, torch.arange(len(images)) % 3, **more)


@pytest.mark.parametrize(("holes", "cell"), [((0, 5, 6), 1), ((0, 5, 6, 10, 11), 2), ((*range(15),), 2), ((*range(16),), 2)])
def test_imputation_in_cells(holes, cell):
    images, removed = image(2, 3, 12, 20), board(*holes)
    got = functional.linear_imputation(images, removed.expand(2, -1, -1, -1), cell=cell)
    want = torch.stack([oracles.imputed_in_cells(each, removed[0, 0], cell) for each in images])
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cell", [1, 2, 3])
def test_what_is_linear_is_restored(cell):
    """In the middle of the image, where each position has all of its neighbours."""
    ramp = (torch.arange(24.0)[:, None] + 2 * torch.arange(24.0)).double()[None, None]
    removed = torch.zeros(1, 1, 24, 24, dtype=torch.bool)
    removed[..., 6:18, 6:12] = True
    torch.testing.assert_close(functional.linear_imputation(ramp, removed, cell=cell), ramp, atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [(11,), (9, 13), (5, 6, 7)])
def test_any_number_of_dimensions_and_a_cell_that_does_not_divide_the_sides(size):
    images = image(3, 2, *size)
    removed = image(3, 1, *size, seed=1) < 0.5
    removed[2] = True
    for cell in (1, 2, 4):
        got = functional.linear_imputation(images, removed, cell=cell)
        assert got.shape == images.shape
        kept = ~removed.expand_as(images)
        assert torch.equal(got[kept], images[kept])
        low, high = (bound(images, tuple(range(2, images.dim())), keepdim=True) for bound in (torch.amin, torch.amax))
        assert ((got >= low - 1e-4) & (got <= high + 1e-4)).all(), "means of what is there"
        alone = functional.linear_imputation(images[1:2], removed[1:2], cell=cell)
        torch.testing.assert_close(got[1:2], alone, atol=1e-9, rtol=0)
    mean = images[2].flatten(1).mean(1)
    torch.testing.assert_close(got[2].flatten(1), mean[:, None].expand(2, math.prod(size)))


def test_values_that_are_removed_do_not_count():
    images, removed = image(1, 1, 12, 20), board(5, 6)
    broken = images.masked_fill(removed, math.nan)
    both = [functional.linear_imputation(each, removed, cell=2) for each in (images, broken)]
    torch.testing.assert_close(*both)


@pytest.mark.parametrize("name", BASELINES)
def test_a_board_of_ones_is_the_image_and_one_of_zeros_is_none_of_it(name):
    images = image(2, 3, 12, 20).float()
    game = batch(images).game_with(name)
    assert isinstance(game, PatchGame)
    assert torch.equal(game(game.full_board), model(images))
    asked = []
    own = PatchGame(lambda shown: asked.append(shown) or model(shown), images, batch(images).replacement(name), [8, 8])
    own(torch.zeros_like(own.full_board))
    replacement = batch(images).replacement(name)
    want = replacement if isinstance(replacement, Tensor) else functional.mean_baseline(images)
    torch.testing.assert_close(asked[0], want)


@pytest.mark.parametrize("name", BASELINES)
def test_a_constant_image_replaces_itself(name):
    images = torch.full((2, 3, 12, 20), 0.25)
    if name == "zero":
        images = torch.zeros_like(images)
    replacement = batch(images, black=lambda: images[:1]).replacement(name)
    removed = board(3, 4, 9).expand(2, -1, -1, -1)
    shown = replacement if isinstance(replacement, Tensor) else replacement(images, removed)
    torch.testing.assert_close(shown, images, atol=1e-5, rtol=0)


def test_black_is_that_of_the_model():
    images = image(2, 3, 12, 20).float()
    assert not batch(images).replacement("black").any()
    black = torch.tensor([-2.0, -1.0, 0.5]).view(1, 3, 1, 1).expand(1, 3, 12, 20)
    assert torch.equal(batch(images, black=lambda: black).replacement("black"), black.expand_as(images))
    with pytest.raises(ValueError, match="'black' is not defined"):
        batch(images, black=lambda: black * math.nan).replacement("black")


def test_noise_depends_on_the_seed_and_the_range_of_its_image_alone():
    images = image(4, 3, 12, 20).float()
    images[1] *= 10
    noise = batch(images, seed=1).replacement("uniform")
    assert torch.equal(noise[1:2], batch(images[1:2], seed=1).replacement("uniform"))
    assert not torch.equal(noise, batch(images, seed=2).replacement("uniform"))
    flat, inside = images.flatten(2), noise.flatten(2)
    assert (inside.amin(2) >= flat.amin(2)).all()
    assert (inside.amax(2) <= flat.amax(2)).all()
    assert (inside.mean(2) - (flat.amin(2) + flat.amax(2)) / 2).abs().max() < 1
    unit = (inside - flat.amin(2, keepdim=True)) / (flat.amax(2, keepdim=True) - flat.amin(2, keepdim=True))
    torch.testing.assert_close(unit[0], unit[1], atol=1e-5, rtol=0)


# The imputation solves a system for each board, and rows with hundreds of boards play the same game.
CHEAP = ("deletion", "irof")
COLUMNS = [(name, each) for name in PLAYED for each in BASELINES if each != "linear" or name in CHEAP]


@pytest.mark.parametrize(("name", "baseline"), COLUMNS)
def test_a_column_depends_neither_on_the_batch_nor_on_another_column(name, baseline):
    images, maps = image(3, 2, 16, 24).float(), image(3, 1, 16, 24, seed=3).float() - 0.5
    black = partial(torch.full, (1, 2, 16, 24), -0.3)
    whole = batch(images, seed=4, black=black)
    alone = Batch(model, images[1:2], torch.tensor([1]), seed=4, black=black)

    def measured(metric: Metric, of: Batch, shown: Tensor) -> Tensor:
        found = metric.measure(Explanation(of, shown, lambda *_, **__: shown))
        return found if isinstance(found, Tensor) else found.area

    default = measured(METRICS[name], whole, maps)
    column = find_metric(f"{name}@{baseline}")
    together = measured(column, whole, maps)
    torch.testing.assert_close(together[1:2], measured(column, alone, maps[1:2]), atol=1e-5, rtol=1e-4, equal_nan=True)
    if name == "insensitivity":  # undefined where no patch is ignored
        return
    assert together.isfinite().all()
    if name != "monotonicity":  # a number of steps
        assert torch.equal(default, together) == (column is METRICS[name])


def test_functions_take_a_name_a_tensor_or_a_function():
    images, maps, targets = image(2, 3, 12, 20).float(), image(2, 1, 12, 20, seed=1).float(), torch.tensor([0, 2])
    mean = functional.mean_baseline(images)
    ways = ["mean", mean, lambda shown, _removed: functional.mean_baseline(shown)]
    for function in (functional.deletion_curve, functional.faithfulness_estimate):
        for patches in (4, None):
            first, *others = (function(model, images, maps, targets, way, patches=patches) for way in ways)
            assert all(torch.equal(first, other) for other in others)
    segments = (torch.arange(240) // 40).view(1, 1, 12, 20).expand(2, 1, 12, 20)
    first, *others = (functional.irof(model, images, maps, targets, way, segments) for way in ways)
    assert all(torch.equal(first, other) for other in others)
    with pytest.raises(ValueError, match="baseline 'maen' is unknown"):
        functional.deletion_curve(model, images, maps, targets, "maen", patches=4)


def test_a_function_sees_what_is_removed():
    """Deletion begins at the image and insertion at nothing of it."""
    images, maps, seen = image(2, 3, 12, 20).float(), image(2, 1, 12, 20, seed=1).float(), []

    def black(shown: Tensor, removed: Tensor) -> Tensor:
        seen.append(removed.float().mean((1, 2, 3)))
        return torch.zeros_like(shown)

    functional.deletion_curve(model, images, maps, torch.tensor([0, 2]), black, patches=4, steps=4)
    functional.insertion_curve(model, images, maps, torch.tensor([0, 2]), black, patches=4, steps=4)
    fractions = torch.tensor([0, 0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25, 0])
    torch.testing.assert_close(torch.stack(seen), fractions[:, None].expand(-1, 2))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("deletion@maen", "baseline 'maen' is unknown. Closest: 'mean'"),
        ("deletion@", "baseline '' is unknown. Known: 'blur'"),
        ("deletoin@mean", "metric 'deletoin@mean' is unknown. Closest: 'deletion'"),
        ("pointing_game@mean", "metric 'pointing_game' has no choice of a baseline; leave '@mean' out"),
        ("road@mean", "metric 'road' has no choice of a baseline"),
    ],
)
def test_names_that_are_refused(name, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        find_metric(name)


def test_names_and_titles():
    deletion = find_metric("deletion")
    assert find_metric("deletion@blur") is deletion is METRICS["deletion"]
    column = find_metric("deletion@mean")
    assert (column.name, column.title) == ("deletion@mean", "Deletion (mean)")
    assert column.settings == {**deletion.settings, "perturb_baseline": "mean"}
    assert column.with_baseline("mean") is column
    with pytest.raises(ValueError, match="has a baseline already; choose another as in 'deletion@black'"):
        column.with_baseline("black")
    assert find_metric("irof@mean") is METRICS["irof"]
    assert set(BASELINES) == {"blur", "mean", "black", "zero", "uniform", "linear"}


def test_arcc():
    """Against its formula, and as a row: the weakest positions imputed less the strongest, with coherency and complexity."""
    gaps, coherencies, complexities = torch.tensor(
        [[0.5, -0.2, 0.9, 1.0], [0.8, 0.9, 0.0, 1.0], [0.3, 0.1, 0.5, 0.0]]
    ).double()
    want = [oracles.arcc(*each) for each in zip(gaps.tolist(), coherencies.tolist(), complexities.tolist(), strict=True)]
    torch.testing.assert_close(functional.arcc(gaps, coherencies, complexities), torch.tensor(want).double())
    assert want[1] == want[2] == 0
    assert want[3] == 1

    images, maps = image(3, 2, 8, 8).float(), image(3, 1, 8, 8, seed=3).float()
    asked = Explanation(batch(images, seed=2), maps, lambda shown, **_: shown[:, :1])
    means = []
    for ordered in (-maps, maps):
        shown = []
        for fraction in (0.2, 0.4, 0.6, 0.8):
            places = (-ordered.flatten(1)).argsort(dim=1, stable=True).argsort(dim=1).view_as(ordered)
            filled = functional.noisy_linear_imputation(images, places < round(fraction * 64), seed=2)
            shown.append(model(filled).softmax(1).gather(1, asked.batch.targets[:, None])[:, 0])
        means.append(torch.stack(shown).mean(0))
    parts = functional.coherency(maps, asked.masked_maps), functional.map_complexity(maps)
    want = functional.arcc(means[0] - means[1], *parts)
    torch.testing.assert_close(METRICS["arcc"].measure(asked), want)


def test_single_deletion():
    """Spearman's correlation of the sums of 16 cells with the drops of the logit when a cell is set to 0."""
    images, maps = image(2, 3, 16, 24).float() - 0.5, image(2, 1, 16, 24, seed=3) - 0.5
    asked = Explanation(batch(images), maps, lambda shown, **_: shown)
    want = []
    for k in range(2):
        sums, drops = [], []
        for row in range(4):
            for column in range(4):
                rows, columns = slice(4 * row, 4 * row + 4), slice(6 * column, 6 * column + 6)
                gone = images[k : k + 1].clone()
                gone[:, :, rows, columns] = 0
                sums.append(float(maps[k, 0, rows, columns].sum()))
                drops.append(float((model(images[k : k + 1]) - model(gone))[0, k]))
        want.append(oracles.spearman(sums, drops))
    torch.testing.assert_close(METRICS["single_deletion"].measure(asked), torch.tensor(want, dtype=torch.float64))
