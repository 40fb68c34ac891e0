"""The self-explaining model of SoftCAM: class evidence first, pooling last.

A pooled classifier reads ``features -> pool -> head -> logits``. SoftCAM swaps the two last steps,
``features -> head at every position -> pool -> logits``, so that the map that is shown is the map that decides.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

__all__ = ["EvidenceHead", "SoftCamModel"]


class EvidenceHead(nn.Sequential):
    """Classifier applied at every position of a feature map: (N, C, h, w) -> (N, K, h, w).

    A chain of per-location layers (1x1 convolutions, dropout, activations) of which the last is a convolution with one
    output channel per class; none at all where the classifier stood before the pooling already (SqueezeNet). Its output
    is the class evidence; the mean over the positions is the logit.
    """


class SoftCamModel(nn.Module):
    r"""Classifier whose logits are the means of its class evidence maps :cite:p:`djoumessi2026softcam`.

    .. math:: E = \mathrm{head}(f(x)), \qquad y_k = \frac{1}{hw} \sum_p E_k(p)

    with features :math:`f(x)` (N, C, h, w), evidence :math:`E` (N, K, h, w) and logits :math:`y` (N, K).

    Cost: a forward of the classifier it came from; the head runs at h*w positions instead of one.

    Args:
        backbone (torch.nn.Module): gives the feature map (N, C, h, w).
        evidence (EvidenceHead): turns it into class evidence (N, K, h, w).
        exact (bool): whether the logits equal those of the classifier it was made from. Default: True

    Example::

        >>> model = convert_to_softcam(torchvision.models.resnet18())
        >>> model.evidence_maps(torch.zeros(2, 3, 224, 224)).shape
        torch.Size([2, 1000, 7, 7])
    """

    def __init__(self, backbone: nn.Module, evidence: EvidenceHead, exact: bool = True) -> None:
        super().__init__()
        self.backbone = backbone
        self.evidence = evidence
        self.exact = exact

    def evidence_maps(self, inputs: Tensor) -> Tensor:
        """Class evidence of ``inputs`` (N, ...) for every class at once.

        Returns:
            Tensor: (N, K, h, w), signed, in units of the logit.
        """
        return cast(Tensor, self.evidence(self.backbone(inputs)))

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (N, K): the mean of each evidence map."""
        return torch.flatten(self.evidence_maps(inputs), 2).mean(dim=2)
