"""What Quantus' own classes do on a board of patches: equal to ours where they are right, and shown where they are not."""

from __future__ import annotations

import warnings
from itertools import chain, repeat

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from captum_softcam.metrics import functional as ours

TARGETS = torch.tensor([2, 0, 1, 1, 0])


class Bent(nn.Module):
    """Logits of boards (N, C, h, w) that are no sum of what the positions give."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, boards: Tensor) -> Tensor:
        self.seen.append(boards)
        flat = boards.flatten(1).double()
        weights = torch.linspace(-1, 1, flat.shape[1], dtype=flat.dtype) * 36 / flat.shape[1]
        return torch.stack([(flat @ weights).sin() + 2, flat.square() @ weights.flip(0), flat @ weights], 1).float()


@pytest.fixture
def model() -> nn.Module:
    return Bent().eval()


@pytest.fixture
def boards() -> Tensor:
    """One channel, square, as most of Quantus' classes need it."""
    return 0.5 + torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def maps() -> Tensor:
    return torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def quantus(name: str, model, images, maps, targets=TARGETS, masks=None, *, softmax=False, batch_size=64, **settings):
    """The answer of a Quantus class with nothing taken from the maps before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import quantus

        metric = getattr(quantus, name)(
            abs=False, normalise=False, return_aggregate=False, disable_warnings=True, **settings
        )
        return metric(
            model=model,
            x_batch=images.numpy(),
            y_batch=targets.numpy(),
            a_batch=maps.numpy().copy(),
            s_batch=None if masks is None else masks.numpy(),
            channel_first=True,
            softmax=softmax,
            batch_size=batch_size,
        )


def test_faithfulness_correlation_equals_quantus_with_the_same_subsets(model, boards, maps, monkeypatch):
    got = ours.faithfulness_correlation(model, boards, maps, TARGETS, boards * 0, patches=None, subset_size=9, runs=30)
    changed = [(boards[0] != seen[0]).flatten().nonzero()[:, 0].numpy() for seen in model.seen[1:]]
    drawn = chain.from_iterable(repeat(subset, 5) for subset in changed)  # the same for each of the five samples
    monkeypatch.setattr(np.random, "choice", lambda *_, **__: next(drawn))
    want = quantus("FaithfulnessCorrelation", model, boards, maps, nr_runs=30, subset_size=9, perturb_baseline=0.0)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_quantus_draws_by_the_place_in_the_batch(model, boards, maps):
    scores = []
    for batch_size in (5, 1):
        np.random.seed(0)
        scores.append(
            quantus("FaithfulnessCorrelation", model, boards, maps, nr_runs=30, subset_size=9, batch_size=batch_size)
        )
    assert np.abs(np.subtract(*scores)).max() > 0.05


def test_monotonicity_correlation_equals_quantus(model, boards, maps):
    got = ours.monotonicity_correlation(model, boards, maps, TARGETS, boards * 0, patches=None)
    want = quantus("MonotonicityCorrelation", model, boards, maps, nr_samples=1, perturb_baseline=0.0)
    np.testing.assert_allclose(got, want, atol=1e-9)


def test_quantus_monotonicity_correlation_fails_where_one_score_is_small(boards, maps):
    class Some(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.flatten(1) - boards[0].flatten())[:, :3]

    with pytest.raises(ValueError, match="assign"):
        quantus("MonotonicityCorrelation", Some().eval(), boards, maps, nr_samples=1, perturb_baseline=0.0)


def test_infidelity_equals_quantus_where_there_is_one_square(model, boards, maps):
    got = ours.infidelity(model, boards, maps * boards, TARGETS, boards * 0, patches=None, sides=[6], scaled=False)
    want = quantus("Infidelity", model, boards, maps, perturb_patch_sizes=[6], n_perturb_samples=1, perturb_baseline=0.0)
    np.testing.assert_allclose(got, want, rtol=1e-4)


def test_quantus_infidelity_does_not_put_the_squares_back(model, boards, maps):
    quantus("Infidelity", model, boards, maps, perturb_patch_sizes=[3], n_perturb_samples=1, perturb_baseline=0.0)
    taken = [int((seen[0] == 0).sum()) for seen in model.seen]
    assert taken == [0, 9, 18, 27, 36]


def test_quantus_monotonicity_is_always_true(model, boards, maps):
    assert quantus("Monotonicity", model, boards, maps, softmax=True) == [True] * 5
    assert ours.monotonicity(model, boards, maps, TARGETS, boards * 0, patches=None, steps=36).lt(1).all()


def test_quantus_sensitivity_n_tells_of_the_first_batch_alone(model, boards, maps):
    scores = quantus("SensitivityN", model, boards, maps, batch_size=3, n_max_percentage=0.5)
    assert len(scores) == 18, "one for each n, not one for each of the five samples"
    first = quantus("SensitivityN", model, boards[:3], maps[:3], TARGETS[:3], n_max_percentage=0.5)
    np.testing.assert_allclose(scores, first)


def test_imputation_equals_quantus():
    from quantus.functions.perturb_func import noisy_linear_imputation

    generator = torch.Generator().manual_seed(2)
    image = torch.rand(3, 9, 8, dtype=torch.float64, generator=generator)
    removed = torch.rand(9, 8, generator=generator) < 0.6
    theirs = noisy_linear_imputation(image.numpy(), removed.flatten().nonzero()[:, 0].numpy(), noise=0.0)
    got = ours.noisy_linear_imputation(image[None], removed[None, None], noise=0.0)[0]
    np.testing.assert_allclose(got, theirs, atol=1e-4)


def test_road_equals_quantus_for_one_channel_in_one_batch(model, boards, maps):
    fractions = [0.25, 0.5, 0.75]
    got = ours.road_curve(model, boards, maps, TARGETS, fractions=fractions, noise=0.0).mean(0)
    want = quantus("ROAD", model, boards, maps, percentages=[25, 50, 75], noise=0.0)
    assert got.tolist() == pytest.approx(list(want.values()))
    assert 0 < got.mean() < 1, "or nothing was compared"


def test_quantus_road_tells_of_the_first_batch_alone_and_fails_on_colour(model, boards, maps):
    whole = quantus("ROAD", model, boards, maps, percentages=[50], noise=0.0, batch_size=2)
    first = quantus("ROAD", model, boards[:2], maps[:2], TARGETS[:2], percentages=[50], noise=0.0)
    assert whole == first
    with pytest.raises(IndexError, match="out of bounds"):
        quantus("ROAD", model, boards.expand(-1, 3, -1, -1), maps, percentages=[50])
    assert ours.road_curve(model, boards.expand(-1, 3, -1, -1), maps, TARGETS).isfinite().all()


def picture(channels: int) -> Tensor:
    """Images of 24 x 30 pixels whose parts SLIC can tell apart."""
    waves = torch.linspace(0, 20, 3 * 24 * 30).sin().view(3, 1, 24, 30) + torch.linspace(0, 2, 30)
    return ((waves - waves.min()) / (waves.max() - waves.min())).repeat(1, channels, 1, 1)


def test_irof_equals_quantus_for_one_channel(model, monkeypatch):
    images = picture(1)
    maps = torch.rand(3, 1, 24, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    segments = ours.superpixels(images)
    counts = segments.flatten(1).amax(1) + 1
    monkeypatch.setattr(np, "trapz", getattr(np, "trapezoid", getattr(np, "trapz", None)), raising=False)  # gone in 2.4
    for i in range(3):
        part = slice(i, i + 1)
        # Quantus' own segments of grey images are squares, whatever the image shows
        monkeypatch.setattr(
            "quantus.helpers.utils.get_superpixel_segments",
            lambda **_: segments[part][0, 0].numpy(),  # noqa: B023
        )
        game = (model, images[part], maps[part], TARGETS[part], images[part] * 0)
        got = ours.irof(*game, segments[part], steps=int(counts[i]))
        want = quantus("IROF", model, *game[1:4], softmax=True, perturb_baseline=0.0)
        first = _after_the_first_segment(model, *game[1:4], segments[part])
        area = counts[i] * (1 - got) - (1 + first) / 2  # Quantus begins after the first segment, and counts segments
        np.testing.assert_allclose(counts[i] - area, want, rtol=1e-5)


def _after_the_first_segment(model, image: Tensor, maps: Tensor, target: Tensor, segments: Tensor) -> float:
    """Share of the probability that is left without the strongest segment."""
    means = [maps[segments == number].mean() for number in range(int(segments.max()) + 1)]
    strongest = int(torch.stack(means).argmax())
    with torch.no_grad():
        before, after = (model(x).softmax(1)[0, target] for x in (image, image * (segments != strongest)))
    return float(after / before)


def test_quantus_irof_fails_on_colour(model, monkeypatch):
    images = picture(3)
    monkeypatch.setattr(np, "trapz", getattr(np, "trapezoid", getattr(np, "trapz", None)), raising=False)
    with pytest.raises(AssertionError, match="shape of arr must be the same as the mask"):
        quantus("IROF", model, images, images[:, :1].double(), TARGETS[:3], softmax=True)
    game = (model, images, images[:, :1], TARGETS[:3], ours.mean_baseline(images), ours.superpixels(images))
    assert ours.irof(*game).isfinite().all()


def test_attribution_localisation_is_the_relevance_mass(boards, maps):
    signed, masks = maps - 0.5, torch.rand(maps.shape, generator=torch.Generator().manual_seed(4)) < 0.3
    want = quantus("AttributionLocalisation", None, boards, signed, masks=masks, positive_attributions=True)
    np.testing.assert_allclose(ours.relevance_mass_accuracy(signed, masks), want, atol=1e-7)


def test_quantus_weighted_localisation_depends_on_the_batch(boards, maps):
    masks = maps > 0.5
    one, all_ = (
        quantus("AttributionLocalisation", None, boards, maps, masks=masks, weighted=True, batch_size=size)
        for size in (1, 5)
    )
    assert not np.allclose(one, all_)
