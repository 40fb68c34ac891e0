"""The self-explaining model of SoftCAM: class evidence first, pooling last.

A pooled classifier reads ``features -> pool -> head -> logits``. SoftCAM swaps the two last steps,
``features -> head at every position -> pool -> logits``, so that the map that is shown is the map that decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from captum_softcam._names import reason, shown
from captum_softcam.softcam.conversion import Conversion
from captum_softcam.softcam.shapes import input_channels, run_on_meta

__all__ = ["EvidenceHead", "SoftCamModel"]


class EvidenceHead(nn.Sequential):
    """Classifier applied at every position of a feature map: (N, C, h, w) -> (N, K, h, w).

    A chain of per-location layers (1x1 convolutions, dropout, activations) of which the last is a convolution with one
    output channel per class; none at all where the classifier stood before the pooling already (SqueezeNet). Its output
    is the class evidence; the mean over the positions is the logit.

    Args:
        *args (torch.nn.Module): the layers in their order, as for ``torch.nn.Sequential``.

    Raises:
        TypeError: for a layer that is no module.

    Example::

        >>> EvidenceHead(torch.nn.Conv2d(512, 5, 1))(torch.zeros(2, 512, 7, 7)).shape
        torch.Size([2, 5, 7, 7])
    """


class SoftCamModel(nn.Module):
    r"""Classifier whose logits are the means of its class evidence maps :cite:p:`djoumessi2026softcam`.

    .. math:: E = \mathrm{head}(f(x)), \qquad y_k = \frac{1}{hw} \sum_p E_k(p)

    with features :math:`f(x)` (N, C, h, w), evidence :math:`E` (N, K, h, w) and logits :math:`y` (N, K).

    Cost: a forward of the classifier it came from; the head runs at h*w positions instead of one.

    Args:
        backbone (torch.nn.Module): gives the feature map (N, C, h, w).
        evidence (EvidenceHead): turns it into class evidence (N, K, h, w).

    ``conversion`` holds what :func:`convert_to_softcam` did; None for a model that was built by hand.

    Example::

        >>> model = convert_to_softcam(torchvision.models.resnet18())
        >>> model.evidence_maps(torch.zeros(2, 3, 224, 224)).shape
        torch.Size([2, 1000, 7, 7])
    """

    def __init__(self, backbone: nn.Module, evidence: EvidenceHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.evidence = evidence
        self.conversion: Conversion | None = None

    def evidence_maps(self, inputs: Tensor) -> Tensor:
        """Class evidence for every class at once. Cost: one forward.

        Args:
            inputs (Tensor): images (N, ...), as the backbone takes them.

        Returns:
            Tensor: (N, K, h, w), signed, in units of the logit.
        """
        return cast(Tensor, self.evidence(self.backbone(inputs)))

    def evidence_grid(self, *size: int) -> tuple[int, ...]:
        """How fine the evidence is for an input of some size, found without computing anything.

        Args:
            *size (int): of the input in pixels, (H, W).

        Returns:
            tuple of int: positions of the evidence, (h, w).

        Raises:
            ValueError: if the input is too small, or the network does not tell how many channels it reads.
        """
        channels = input_channels(self.backbone)
        if channels is None:
            raise ValueError("the backbone has no convolution that would tell its input; call evidence_maps instead.")
        try:
            return tuple(run_on_meta(self.backbone, (1, channels, *size)).shape[2:])
        except RuntimeError as error:
            sides = " x ".join(map(str, size))
            raise ValueError(f"the network does not run at {sides} pixels: {reason(error)}") from error

    def save(
        self,
        path: str | Path,
        *,
        classes: Sequence[str] | None = None,
        image_size: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> Path:
        """Write the model as one safetensors file with a JSON header; see :meth:`Classifier.save`, which tells more.

        Args:
            path (path): the file; one that exists is replaced, once the new one is whole.
            classes (sequence of str): names in the order of the logits. Default: not told
            image_size (int): side of the square input, in pixels. Default: not told
            mean (sequence of float): subtracted from each channel of an image in [0, 1]. Default: not told
            std (sequence of float): what each channel is divided by afterwards. Default: not told

        Returns:
            Path: the file.

        Raises:
            FileNotFoundError: if its folder does not exist.
        """
        from captum_softcam.softcam.files import save_model  # which converts, and so needs this class

        name = type(self).__name__
        return save_model(self, path, name=name, classes=classes, image_size=image_size, mean=mean, std=std)

    @classmethod
    def load(cls, path: str | Path, model: nn.Module | None = None) -> SoftCamModel:
        """Read what :meth:`save` wrote.

        Args:
            path (path): the file.
            model (torch.nn.Module): the network, where torchvision does not build it; see :meth:`Classifier.load`, which
                tells more. Default: built by torchvision

        Returns:
            SoftCamModel: in eval mode, on the CPU.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is cut off, not ours, of a newer format, holds a black box, or does not fit the network.
        """
        from captum_softcam.softcam.files import load_model

        found, _ = load_model(path, model)
        if not isinstance(found, cls):
            raise ValueError(f"'{shown(path)}' holds a black box; read it with Classifier.load, or convert it.")
        return found

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of ``inputs`` (N, ...), the means of their evidence maps: (N, K)."""
        return pooled(self.evidence_maps(inputs))


def pooled(evidence: Tensor) -> Tensor:
    """Logits (N, K) of evidence maps (N, K, ...)."""
    return torch.flatten(evidence, 2).mean(dim=2)
