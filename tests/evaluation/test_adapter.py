"""Methods as Quantus wants them, and the controls."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from captum.attr import LayerAttribution, Saliency

from captum_softcam.attr import METHODS, LayerReciproCam
from captum_softcam.evaluation import CONTROLS, CentredGaussian, LayerExplainFunc, RandomMap
from captum_softcam.softcam import convert_to_softcam


@pytest.fixture
def model(net):
    return convert_to_softcam(net.float())


@pytest.fixture
def batch() -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).random((3, 3, 16, 24), dtype=np.float32), np.array([0, 3, 1])


def _explain(name: str) -> LayerExplainFunc:
    return LayerExplainFunc(name, None if name == "soft_cam" else "backbone.relu")


@pytest.mark.parametrize("name", [*METHODS, *CONTROLS])
def test_maps_are_arrays_at_input_resolution(model, batch, name):
    maps = _explain(name)(model, *batch, device="cpu", method="ignored")
    assert type(maps) is np.ndarray
    assert maps.dtype == np.float32
    assert maps.shape == (3, 1, 16, 24)
    assert np.ptp(maps) > 0


def test_equals_captums_own_call(model, batch):
    images, targets = map(torch.as_tensor, batch)
    direct = LayerReciproCam(model, model.backbone.relu).attribute(images, target=targets)
    want = LayerAttribution.interpolate(direct, (16, 24), "bilinear")
    np.testing.assert_allclose(_explain("recipro_cam")(model, *batch), want.numpy(), atol=1e-6)


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
def test_input_attributions_are_summed_over_channels(model, batch):
    images, targets = map(torch.as_tensor, batch)
    want = Saliency(model).attribute(images.clone(), targets, abs=False).sum(1, keepdim=True)
    np.testing.assert_allclose(LayerExplainFunc(Saliency, abs=False)(model, *batch), want.numpy(), atol=1e-6)


def test_explains_the_model_that_is_handed_in(model, batch):
    other = copy.deepcopy(model)
    other.evidence[-1].weight.data.neg_()
    explain = _explain("recipro_cam")
    assert not np.allclose(explain(model, *batch), explain(other, *batch))


def test_runs_inside_quantus(model, batch):
    import quantus  # here, for it takes seconds

    masks = np.zeros((3, 1, 16, 24), bool)
    masks[:, :, 4:9, 4:9] = True
    explain = _explain("recipro_cam")
    asked = quantus.RelevanceRankAccuracy(disable_warnings=True)(
        model=model, x_batch=batch[0], y_batch=batch[1], s_batch=masks, explain_func=explain, channel_first=True
    )
    given = quantus.RelevanceRankAccuracy(disable_warnings=True)(
        model=model, x_batch=batch[0], y_batch=batch[1], a_batch=explain(model, *batch), s_batch=masks, channel_first=True
    )
    assert asked == pytest.approx(given)


def test_wrong_names_are_refused(model, batch):
    with pytest.raises(ValueError, match=r"method 'reciprocam' is unknown\. Closest: 'recipro_cam'"):
        LayerExplainFunc("reciprocam", "backbone")
    with pytest.raises(ValueError, match="LayerGradCam needs the name of a layer; got None"):
        LayerExplainFunc("grad_cam")
    with pytest.raises(ValueError, match=r"layer 'backbone.relux' is not in SoftCamModel\. Closest: 'backbone.relu'"):
        LayerExplainFunc("grad_cam", "backbone.relux")(model, *batch)


def test_noise_belongs_to_the_image_not_to_the_batch():
    images, state = torch.rand(3, 3, 8, 9), torch.get_rng_state()
    maps = RandomMap(lambda x: x).attribute(images)
    assert torch.equal(RandomMap(lambda x: x).attribute(images[1:2]), maps[1:2])
    assert not torch.equal(maps[0], maps[1])
    assert not torch.equal(RandomMap(lambda x: x, seed=1).attribute(images), maps)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_bell_stands_in_the_middle():
    bell = CentredGaussian(lambda x: x).attribute(torch.rand(2, 3, 9, 15))
    assert bell.shape == (2, 1, 9, 15)
    assert bell[1, 0].argmax() == 4 * 15 + 7
    torch.testing.assert_close(bell, bell.flip(2, 3))
