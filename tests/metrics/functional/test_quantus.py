"""Our scores beside Quantus' own classes: equal where Quantus is right, and shown to differ where it is not."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from captum_softcam.metrics import functional as ours


def quantus(name: str, maps: Tensor, masks: Tensor | None = None, **settings) -> Tensor:
    """Scores (N,) of a Quantus class, with nothing taken from the maps before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import quantus

        blank = np.zeros(maps.shape)
        metric = getattr(quantus, name)(
            abs=False, normalise=False, return_aggregate=False, disable_warnings=True, **settings
        )
        answer = metric(
            model=None,
            x_batch=blank,
            y_batch=np.zeros(len(maps), int),
            a_batch=maps.numpy().copy(),
            s_batch=None if masks is None else masks.numpy(),
            channel_first=True,
            batch_size=len(maps),
        )
    return torch.tensor(np.asarray(answer, dtype=np.float64))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ours.pointing_game, "PointingGame"),
        (ours.relevance_rank_accuracy, "RelevanceRankAccuracy"),
        (ours.pixel_auc, "AUC"),
    ],
)
def test_equals_quantus_on_signed_maps_without_ties(ours, theirs, maps, masks):
    torch.testing.assert_close(ours(maps, masks), quantus(theirs, maps, masks))


def test_auc_equals_quantus_with_ties_too(tied, masks):
    torch.testing.assert_close(ours.pixel_auc(tied, masks), quantus("AUC", tied, masks))


@pytest.mark.parametrize("k", [0.3, 1.0, 1.5])
def test_top_k_equals_quantus_with_the_same_number_of_positions(k, maps, masks):
    for i in range(len(maps)):
        part = slice(i, i + 1)
        count = int(masks[part].sum() * k + 0.5)
        want = quantus("TopKIntersection", maps[part], masks[part], k=count)
        torch.testing.assert_close(ours.top_k_intersection(maps[part], masks[part], k=k), want)


def test_mass_equals_quantus_on_the_positive_part(maps, masks):
    want = quantus("RelevanceMassAccuracy", maps.relu(), masks)
    torch.testing.assert_close(ours.relevance_mass_accuracy(maps, masks), want)
    torch.testing.assert_close(ours.energy_based_pointing_game(maps, masks), want)


def test_sparseness_equals_quantus_on_magnitudes(maps):
    want = quantus("Sparseness", maps.abs())
    torch.testing.assert_close(ours.sparseness(maps), want, atol=1e-6, rtol=0)  # it adds 1e-7 to every value


def test_complexity_equals_quantus_on_magnitudes(maps):
    torch.testing.assert_close(ours.complexity(maps), quantus("Complexity", maps.abs()))
    assert quantus("Complexity", maps).isnan().all(), "with abs=False"


def test_quantus_effective_complexity_is_a_matter_of_units(maps):
    assert (quantus("EffectiveComplexity", maps.abs()) == 63).all(), "all positions"
    assert (quantus("EffectiveComplexity", 1e-6 * maps.abs()) < 63).all()


def test_quantus_mass_of_a_signed_map_is_no_share():
    maps, masks = torch.tensor([3.0, 1.0, -3.0, 0.0]).view(1, 1, 2, 2), torch.tensor([True, False, False, False])
    assert quantus("RelevanceMassAccuracy", maps, masks.view(1, 1, 2, 2)).item() == 3
    assert ours.relevance_mass_accuracy(maps, masks.view(1, 1, 2, 2)).item() == 0.75


def test_quantus_points_with_all_of_its_highest_positions_at_once():
    maps, masks = torch.tensor([1.0, 1.0, 1.0, 0.0]).view(1, 1, 2, 2), torch.tensor([True, False, False, False])
    assert quantus("PointingGame", maps, masks.view(1, 1, 2, 2)).item() == 1
    assert ours.pointing_game(maps, masks.view(1, 1, 2, 2)).item() == pytest.approx(1 / 3)


def test_quantus_points_at_empty_masks(maps, masks):
    masks[1] = False
    assert quantus("PointingGame", maps, masks)[1].item() == 1
    assert ours.pointing_game(maps, masks)[1].isnan()


def test_quantus_ranks_ties_by_where_they_stand():
    """A map of two values, of which the mask has the lower: the expected share does not depend on the place."""
    maps = torch.zeros(1, 1, 4, 4)
    maps[..., 0, 0] = 1
    places = torch.eye(16, dtype=torch.bool)[1:].view(15, 1, 4, 4)
    masks = places | (maps > 0)  # the peak and one position of the rest
    theirs = quantus("RelevanceRankAccuracy", maps.expand(15, 1, 4, 4), masks)
    assert sorted(set(theirs.tolist())) == [0.5, 1.0]
    got = ours.relevance_rank_accuracy(maps.expand(15, 1, 4, 4), masks)
    torch.testing.assert_close(got, torch.full((15,), (1 + 1 / 15) / 2))
    torch.testing.assert_close(theirs.mean(), got[0].double(), msg="one of them is hit")


def test_quantus_sparseness_drowns_small_values(maps):
    small = maps.abs() * 1e-7
    assert (quantus("Sparseness", small) - quantus("Sparseness", maps.abs())).abs().min() > 0.05
    torch.testing.assert_close(ours.sparseness(small), ours.sparseness(maps))
