"""The grid pointing game and its mosaics."""

from __future__ import annotations

import oracles
import pytest
import torch

from captum_softcam.metrics.functional import grid_pointing_game, mosaics
from captum_softcam.metrics.functional.mosaics import cell_masks, count_cells
from captum_softcam.metrics.mosaics import Candidate, MosaicPool


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_mosaics_and_their_score_equal_loops():
    images, others, maps, cells = _random(4, 2, 6, 8), _random(4, 3, 2, 6, 8), _random(4, 1, 6, 8), torch.arange(4)
    made, scores = mosaics(images, others, cells), grid_pointing_game(maps, cells)
    for row in range(4):
        torch.testing.assert_close(made[row], oracles.mosaic(images[row], list(others[row]), row))
        assert scores[row].item() == pytest.approx(oracles.grid_pointing(maps[row, 0].tolist(), row), abs=1e-12)


@pytest.mark.parametrize(("size", "count"), [((9,), 2), ((5, 7), 4), ((3, 4, 5), 8), ((1, 6), 2)])
def test_cells_cover_a_mosaic_of_any_shape(size, count):
    """Each image has a value of its own, which says where it lies."""
    assert count_cells(size) == count
    cells = torch.arange(count)
    images = torch.full((count, 1, *size), 99.0)
    others = torch.arange(count - 1.0).view(1, -1, 1, *[1] * len(size)).expand(count, -1, 1, *size)
    made, masks = mosaics(images, others, cells), cell_masks(cells, size)
    assert torch.equal(made == 99, masks)
    assert masks.sum(0).eq(1).all()
    for row in range(count):
        assert set(made[row].unique().tolist()) == {99.0, *range(count - 1)}
    torch.testing.assert_close(grid_pointing_game(torch.rand(count, 1, *size), cells).isnan(), torch.zeros(count).bool())
    assert grid_pointing_game(torch.rand(1, 1, *size), torch.tensor([-1])).isnan().all()


def test_others_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"others are \(2, 4, 1, 6, 6\), .* expected \(N, 3, C"):
        mosaics(_random(2, 1, 6, 6), _random(2, 4, 1, 6, 6), torch.tensor([0, 1]))


def _pool(*classes: int) -> MosaicPool:
    images = torch.stack([torch.full((1, 4, 4), float(i)) for i in range(len(classes))])
    return MosaicPool(images, tuple(frozenset({each}) for each in classes), lambda images: 10 * images)


def test_a_pool_fills_cells_with_images_of_other_classes():
    pool, images, targets = _pool(0, 0, 1, 1, 1, 2), torch.full((40, 1, 4, 4), 9.0), torch.arange(40) % 3
    made = pool.make(images, targets, range(40))
    assert set(made.cells.tolist()) == {0, 1, 2, 3}
    for row in range(40):
        shown = {int(value) // 10 for value in made.images[row].unique()}
        assert len(shown) == 4, "no image twice while there are enough"
        assert not shown & {place for place, classes in enumerate(pool.classes) if int(targets[row]) in classes}
        assert made.images[row][cell_masks(made.cells[row : row + 1], (4, 4))[0]].eq(90).all(), "normalised after all"
    alone = pool.make(images[7:8], targets[7:8], [7])
    assert torch.equal(alone.images[0], made.images[7])
    assert not torch.equal(pool.make(images, targets, range(40), 1).cells, made.cells)


def test_few_others_are_shown_again_and_none_leaves_no_score():
    made = _pool(0, 1).make(torch.full((2, 1, 4, 4), 9.0), torch.tensor([0, 7]), [0, 1])
    assert made.images[0].unique().tolist() == [10, 90]
    assert (made.cells >= 0).all()
    alone = _pool(0, 0).make(torch.full((1, 1, 4, 4), 9.0), torch.tensor([0]), [0])
    assert alone.cells.tolist() == [-1]


def _model(images: torch.Tensor) -> torch.Tensor:
    """Predicts the class that the brightness says."""
    return -(images.mean((1, 2, 3))[:, None] - torch.arange(5.0)).abs()


def _candidates(*targets: int | None) -> list[Candidate]:
    return [Candidate(torch.full((1, 4, 4), float(i % 5)), target) for i, target in enumerate(targets)]


def test_a_pool_has_the_first_images_of_each_class():
    pool, places = MosaicPool.chosen(_candidates(0, 0, 0, 0, 1, 1, 1, 1, 2), _model)
    assert places == [0, 1, 2, 4, 5, 6, 8]
    assert pool.classes == tuple(map(frozenset, [{0}, {0, 1}, {0, 2}, {1, 4}, {1, 0}, {1}, {2, 3}]))
    assert MosaicPool.chosen(_candidates(*range(40)), _model)[1] == list(range(12))
    assert MosaicPool.chosen(_candidates(*[0] * 99, 1, 2), _model)[1] == [0, 1, 2, 99], "sorted by class"
    broken = Candidate(torch.full((1, 4, 4), torch.nan), 7)
    assert MosaicPool.chosen([broken, *_candidates(0, 1)], _model)[1] == [1, 2]
    nothing = MosaicPool.chosen([broken], _model)[0]
    assert nothing.make(torch.ones(1, 1, 4, 4), torch.tensor([0]), [0]).cells.tolist() == [-1]
    assert MosaicPool.chosen(_candidates(None, 3), _model)[0].classes == (frozenset({0}), frozenset({1, 3}))
