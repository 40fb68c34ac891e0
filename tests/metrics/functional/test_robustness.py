"""Robustness against its literal versions and Quantus, and at the edges."""

from __future__ import annotations

import math
import warnings

import numpy as np
import oracles
import pytest
import torch
from metric_calls import versions_of
from torch import Tensor, nn

from captum_softcam.metrics import METRICS, Batch, Explanation
from captum_softcam.metrics.functional import (
    avg_sensitivity,
    continuity,
    local_lipschitz_estimate,
    max_sensitivity,
    noisy_images,
    relative_input_stability,
    shift_offsets,
    translated_images,
)

SHAPES = [(11,), (4, 5), (2, 3, 4)]


def _scene(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images, maps = (torch.randn(3, channels, *shape, dtype=torch.float64, generator=generator) for channels in (2, 1))
    return images, maps


def _rows(maps: Tensor) -> list[list[float]]:
    return maps.flatten(1).tolist()


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_oracles(shape):
    images, maps = _scene(shape)
    noisy, versions = versions_of(maps), noisy_images(images, runs=2, radius=0.3, seed=5)
    same = torch.tensor([[True, True], [False, True], [False, False]])
    draws = torch.from_numpy(np.random.default_rng(5).uniform(-1, 1, (2, *images.shape[1:])))
    found = [
        max_sensitivity(maps, noisy),
        avg_sensitivity(maps, noisy),
        local_lipschitz_estimate(maps, noisy, images, versions),
        relative_input_stability(maps, noisy, images, versions, same),
    ]
    for i in range(3):
        expected = oracles.noisy(images[i], draws, 0.3)
        torch.testing.assert_close(versions[i], torch.stack(expected))
        own, others = maps[i].flatten().tolist(), _rows(noisy[i])
        want = [
            *oracles.sensitivities(own, others),
            oracles.lipschitz(own, others, images[i], expected),
            oracles.input_stability(own, others, images[i], expected, same[i].tolist()),
        ]
        assert [score[i].item() for score in found] == pytest.approx(want, nan_ok=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_translation_and_continuity_equal_the_oracles(shape):
    images, maps = _scene(shape)
    offsets = shift_offsets(shape, [0.5, -0.2])
    for i in range(3):
        for offset in offsets:
            torch.testing.assert_close(translated_images(images, offset)[i], oracles.translated(images[i], offset))
        want = oracles.continuity(maps[i, 0], list(versions_of(maps)[i]), offsets)
        assert continuity(maps, versions_of(maps), offsets)[i].item() == pytest.approx(want)


@pytest.mark.parametrize(("scale", "offset"), [(255.0, 0.0), (4.0, -2.0)])
def test_noise_is_in_units_of_the_image(scale, offset):
    images, _ = _scene((4, 5))
    torch.testing.assert_close(noisy_images(scale * images + offset), scale * noisy_images(images) + offset)
    assert torch.equal(noisy_images(images)[:1], noisy_images(images[:1])), "the same noise in any batch"
    one, other = ((noisy_images(images) - images[:, None]) / images.std((2, 3), keepdim=True)[:, None])[:2]
    torch.testing.assert_close(one, other, msg="and for any sample")


def test_a_constant_channel_stays_constant():
    images, maps = _scene((4, 5))
    images[:, 1] = 0.1
    noisy = noisy_images(images)
    assert (noisy[:, :, 1] == 0.1).all()
    assert local_lipschitz_estimate(maps, versions_of(maps), images, noisy[:, :2]).isfinite().all()


def _measured(name: str, images: Tensor, method, model=None) -> Tensor:
    model = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 2)).eval() if model is None else model
    batch = Batch(model, images, torch.zeros(len(images), dtype=torch.long))
    return METRICS[name].measure(Explanation(batch, method(images), lambda versions, **_: method(versions)))


@pytest.mark.parametrize("name", ["max_sensitivity", "local_lipschitz_estimate", "continuity", "flip_symmetry"])
def test_an_image_that_does_not_change_says_nothing(name):
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images[1] = 0.3
    ramp = torch.linspace(0, 1, 64).view(1, 1, 8, 8)
    assert _measured(name, images, lambda x: x[:, :1] + ramp).isnan().tolist() == [False, True]


def test_continuity_tells_what_moves_from_what_stays():
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    bell = torch.exp(-torch.linspace(-2, 2, 32).square())
    assert _measured("continuity", images, lambda x: x[:, :1]).tolist() == pytest.approx([1, 1])
    assert _measured("continuity", images, lambda x: (bell[:, None] * bell).expand(len(x), 1, 32, 32)).tolist() == [0, 0]
    noise = torch.Generator().manual_seed(1)
    drawn = _measured("continuity", images, lambda x: torch.randn(len(x), 1, 32, 32, generator=noise))
    assert drawn.tolist() == pytest.approx([0.5, 0.5], abs=0.02)


def test_each_perturbation_draws_anew_and_methods_share_the_images():
    images, maps = _scene((4, 5))
    batch = Batch(nn.Sequential(nn.Flatten(), nn.Linear(40, 2, dtype=torch.float64)).eval(), images, torch.zeros(3).long())
    seen: list[tuple[str, Tensor]] = []

    def explain(versions: Tensor, *, draw: str) -> Tensor:
        seen.append((draw, versions))
        return versions[:, :1]

    for _ in range(2):
        asked = Explanation(batch, maps, explain)
        for name in ("max_sensitivity", "avg_sensitivity", "local_lipschitz_estimate", "relative_input_stability"):
            METRICS[name].measure(asked)
    assert len(seen) == 16, "four metrics share eight maps of each method"
    assert len({draw for draw, _ in seen}) == 8
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(seen[:8], seen[8:], strict=True))


def test_only_versions_with_the_same_prediction_count():
    """The model changes its mind under the strongest noise, where the map jumps."""
    images = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    limit = noisy_images(images)[:, :, 0, 0, 0] - images[:, :, 0, 0]

    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            moved = (x[:, 0, 0, 0] - images[0, 0, 0, 0]).abs() > 0.8 * limit.abs().max()
            return torch.stack([~moved, moved], 1) * 3.0 - 1.0

    def method(x: Tensor) -> Tensor:
        moved = (x[:, :1, :1, :1] - images[:, :, :1, :1]).abs() > 0.8 * limit.abs().max()
        return x + 100.0 * moved

    calm = _measured("relative_input_stability", images, lambda x: x, Model())
    torch.testing.assert_close(_measured("relative_input_stability", images, method, Model()), calm)
    assert _measured("local_lipschitz_estimate", images, method, Model()) > 10


class TestQuantus:
    """Its sensitivities of the same noisy images, and the faults of the others."""

    @pytest.fixture
    def run(self):
        def run(name: str, images: Tensor, method, model: nn.Module, versions: Tensor | None = None, **settings) -> list:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import quantus

                if versions is not None:
                    left = [version.flatten(1).numpy() for version in versions.unbind(1)]
                    settings |= {"nr_samples": len(left), "perturb_func": lambda **_: left.pop(0).copy()}
                metric = getattr(quantus, name)(disable_warnings=True, abs=False, normalise=False, **settings)
                answer = metric(
                    model=model,
                    x_batch=images.numpy(),
                    y_batch=np.zeros(len(images), int),
                    a_batch=method(images).numpy(),
                    channel_first=True,
                    explain_func=lambda model, inputs, targets, **_: method(torch.as_tensor(inputs)).numpy(),  # noqa: ARG005
                )
            return [float(score) for score in answer]

        return run

    @pytest.fixture
    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).eval()

    @pytest.mark.parametrize(("row", "name"), [("max_sensitivity", "MaxSensitivity"), ("avg_sensitivity", "AvgSensitivity")])
    def test_sensitivities_are_equal(self, row, name, run, model):
        images = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        method = lambda x: x.square().sum(1, keepdim=True)  # noqa: E731
        want = run(name, images, method, model, noisy_images(images))
        assert _measured(row, images, method, model).tolist() == pytest.approx(want, rel=1e-5)

    def test_its_lipschitz_estimate_is_in_units_of_the_method(self, run, model):
        images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        once, twice = (
            run("LocalLipschitzEstimate", images, lambda x, k=k: k * x[:, :1], model, noisy_images(images)) for k in (1, 2)
        )
        assert twice == pytest.approx([2 * score for score in once], rel=1e-4)

    def test_its_stability_is_lost_with_one_prediction(self, run):
        images = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)) + 1

        class Model(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                moved = (x - images).abs().amax((1, 2, 3)) > 0.15 * images.std()
                return torch.stack([~moved, moved], 1) * 3.0 - 1.0

        settings = {"return_nan_when_prediction_changes": True}
        theirs = run("RelativeInputStability", images, lambda x: x, Model().eval(), noisy_images(images), **settings)
        assert math.isnan(theirs[0])
        assert _measured("relative_input_stability", images, lambda x: x, Model().eval()).isfinite().all()

    def test_its_continuity_is_best_for_a_map_that_stays(self, run):
        images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2)).eval()
        ramp = torch.linspace(0.1, 1, 64).view(1, 1, 8, 8)
        stays = run("Continuity", images, lambda x: ramp.expand(len(x), 1, 8, 8), model, nr_steps=4)
        moves = run("Continuity", images, lambda x: x[:, :1], model, nr_steps=4)
        assert stays == [0, 0]
        assert min(moves) > 0
        assert (_measured("continuity", images, lambda x: x[:, :1]) > 0.99).all()


def test_refusals():
    images, maps = _scene((4, 5))
    with pytest.raises(ValueError, match="runs must be >= 1; got 0"):
        noisy_images(images, runs=0)
    with pytest.raises(ValueError, match=r"radius must be > 0; got -1"):
        noisy_images(images, radius=-1)
    with pytest.raises(ValueError, match=r"noisy_maps are \(3, 1, 5, 4\) and maps \(3, 1, 4, 5\); expected \(N, R, ...\)"):
        max_sensitivity(maps, maps.mT)
    with pytest.raises(ValueError, match="one map per sample"):
        avg_sensitivity(images, images)
    with pytest.raises(ValueError, match="shifts are empty"):
        shift_offsets((4, 5), [])
    with pytest.raises(ValueError, match=r"shifts are fractions of the side between -1 and 1 other than 0; got 1.5"):
        shift_offsets((4, 5), [0.5, 1.5])
    with pytest.raises(ValueError, match="shifted_maps are 1 of each sample for 2 shifts"):
        continuity(maps, maps, [(1, 1), (2, 2)])
