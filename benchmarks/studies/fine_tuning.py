"""Fine-tune EfficientNet-Lite0 on a few hundred images, as it is or as a SoftCAM model; shared by the studies.

The first layers keep the weights of ImageNet and are never trained. Their output is therefore computed once for each image
and its mirror image, which saves half of the time of a training.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from study import Work
from torch import Tensor, nn
from torch.utils.data import Dataset

from captum_softcam.softcam import (
    Classifier,
    ElasticNetEvidenceLoss,
    SoftCamModel,
    SoftCamTask,
    convert_to_softcam,
    load_classifier,
    train_classifier,
)
from captum_softcam.softcam.training import has_checkpoint

NETWORK = "efficientnet_lite0"
SIZE = 224
STRIDE = 32  # of the network
_FROZEN, _FROZEN_STRIDE = 5, 16  # the first blocks, and pixels per position of their output
_BATCH = 25


class Recipe(NamedTuple):
    """How a network is fine-tuned.

    Args:
        kind (str): of the targets, as for ``SoftCamTask``.
        epochs (int): of which the best by ``score`` on the validation images is kept.
        lr (float): learning rate of the first epoch. Default: 0.02
        batch_size (int): images per step. Default: 15
        score (str): see ``epochs``. Default: ``"auc"``
    """

    kind: str
    epochs: int
    lr: float = 0.02
    batch_size: int = 15
    score: str = "auc"


class Images(NamedTuple):
    """Images as the frozen layers see them, with targets.

    Args:
        features (Tensor): (N, 2, C, h, w), of every image and its mirror image.
        targets (Tensor): (N,) or (N, K), as for ``SoftCamTask``.
    """

    features: Tensor
    targets: Tensor

    def part(self, places: Sequence[int]) -> Images:
        """Return some of the images."""
        index = torch.as_tensor(places)
        return Images(self.features[index], self.targets[index])


def normalize(images: Tensor) -> Tensor:
    """Turn images (N, 3, H, W) in [0, 1] into inputs of the network."""
    return _pretrained().normalize(images)


@torch.no_grad()
def frozen_features(images: Tensor, targets: Tensor) -> Images:
    """Run the frozen layers on images and their mirror images.

    Args:
        images (Tensor): (N, 3, 224, 224), in [0, 1].
        targets (Tensor): (N,) or (N, K).
    """
    model = _pretrained().model.to(memory_format=torch.channels_last)
    layers = nn.Sequential(model.conv_stem, model.bn1, *model.blocks[:_FROZEN])
    found = []
    for part in normalize(images).split(_BATCH):
        inputs = (side.contiguous(memory_format=torch.channels_last) for side in (part, part.flip(-1)))
        found.append(torch.stack([layers(side) for side in inputs], 1))
    return Images(torch.cat(found), targets)


def new_network(classes: int, seed: int, output_stride: int | None = None) -> nn.Module:
    """Return the network with the weights of ImageNet and a new classifier, in eval mode.

    Args:
        classes (int): number of logits.
        seed (int): of the new classifier.
        output_stride (int): of a SoftCAM model, which has the same weights. Default: None, for the black box
    """
    model = load_classifier(NETWORK).model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.classifier = nn.Linear(model.classifier.in_features, classes)
    return _in_form(model.eval(), None, output_stride)


def fine_tuned(
    work: Work,
    name: str,
    *,
    train: Images,
    validation: Images,
    classes: int,
    seed: int,
    recipe: Recipe,
    output_stride: int | None = None,
    penalty: ElasticNetEvidenceLoss | None = None,
    class_weights: Tensor | None = None,
    start: nn.Module | None = None,
) -> Any:
    """Fine-tune a black box or a SoftCAM model, or load it if that was done before.

    Models of one seed start from the same weights and see the same images in the same order.

    Args:
        work (Work): the folder of the study.
        name (str): of the model in it.
        train (Images): mirrored at random in every epoch.
        validation (Images): choose the epoch.
        classes (int): number of logits.
        seed (int): of the new classifier, the order and the mirroring.
        recipe (Recipe): how to train.
        output_stride (int): of a SoftCAM model. Default: None, for the black box
        penalty (ElasticNetEvidenceLoss): on the evidence of a SoftCAM model. Default: None
        class_weights (Tensor): as for ``SoftCamTask``. Default: None
        start (torch.nn.Module): black box to start from. Default: a new one

    Returns:
        torch.nn.Module: the whole network on normalized images, in eval mode and channels last.
    """
    start = new_network(classes, seed) if start is None else start
    model = _in_form(copy.deepcopy(start), None, output_stride)

    def fit() -> None:
        tail = _in_form(_Tail(copy.deepcopy(start)).eval(), train.features[:2, 0], output_stride, _FROZEN_STRIDE)
        task = SoftCamTask(
            tail.to(memory_format=torch.channels_last),
            penalty,
            kind=recipe.kind,
            class_weights=class_weights,
            score=recipe.score,
            lr=recipe.lr,
        )
        folder = work.folder / f"{name}-training"
        result = train_classifier(
            task,
            _Mirrored(train, at_random=True),
            _Mirrored(validation, at_random=False),
            folder,
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            seed=seed,
            accelerator="cpu",
            resume=has_checkpoint(folder),
            show_progress=False,
        )
        print(f"{name}: validation {recipe.score} by epoch", *(f"{row['val_score']:.3f}" for row in result.history))
        # The layers of the tail have the names that they have in the whole network.
        unknown = model.load_state_dict(tail.state_dict(), strict=False).unexpected_keys
        assert not unknown, unknown
        shutil.rmtree(folder)

    return work.fitted(name, model, fit).to(memory_format=torch.channels_last)


@cache
def _pretrained() -> Classifier:
    return load_classifier(NETWORK)


class _Tail(nn.Module):
    """The layers of the network that are trained, under their names in it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.blocks = nn.Sequential()
        for name, block in list(model.blocks.named_children())[_FROZEN:]:
            self.blocks.add_module(name, block)
        self.conv_head, self.bn2 = model.conv_head, model.bn2
        self.global_pool, self.classifier = model.global_pool, model.classifier

    def forward(self, features: Tensor) -> Any:
        """Compute logits (N, K) from the output of the frozen layers."""
        return self.classifier(self.global_pool(self.bn2(self.conv_head(self.blocks(features)))))


def _in_form(model: nn.Module, example: Tensor | None, output_stride: int | None, of_input: int = 1) -> nn.Module:
    """Convert a network, whose input has ``of_input`` pixels per position, to SoftCAM if there is an output stride."""
    if output_stride is None:
        return model
    stride = None if output_stride == STRIDE else output_stride // of_input
    converted: SoftCamModel = convert_to_softcam(model, example, output_stride=stride)
    return converted


class _Mirrored(Dataset[tuple[Tensor, Tensor]]):
    """Features and target of an image, or of its mirror image in half of the cases."""

    def __init__(self, images: Images, at_random: bool) -> None:
        self.images = images
        self.at_random = at_random

    def __len__(self) -> int:
        return len(self.images.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        side = int(torch.randint(2, ())) if self.at_random else 0
        return self.images.features[index, side], self.images.targets[index]
