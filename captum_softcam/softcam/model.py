"""The self-explaining model of SoftCAM: class evidence first, pooling last.

A pooled classifier reads ``features -> pool -> head -> logits``. SoftCAM swaps the two last steps,
``features -> head at every position -> pool -> logits``, so that the map that is shown is the map that decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from captum_softcam._names import reason

__all__ = [
    "CONVOLUTIONS",
    "Conversion",
    "EvidenceHead",
    "SoftCamModel",
    "input_channels",
    "noise_like",
    "pooled",
    "run_on_meta",
    "spatial_dims",
]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Convolutions in the order of their spatial dimensions."""

_KEEPS_SHAPE = {
    *(F.batch_norm, F.layer_norm, F.group_norm, F.dropout),
    *(F.relu, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, F.hardswish, F.hardsigmoid, F.hardtanh),
}


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


@dataclass(frozen=True)
class Conversion:
    """The record that ``SoftCamModel.conversion`` holds; ``print`` it.

    Args:
        source (str): class of the model, with its module.
        pooling (str): the step that moved behind the classifier.
        replaced (tuple of str): each layer of the head and what it became.
        exact (bool): whether the logits are those of the source, up to rounding: of the largest logit or evidence, at most
            1e-5 in float32, 1e-10 in float64, 0.01 in float16, 0.05 in bfloat16, and 0.01 where a GPU rounds to TF32.
        reason (str): why not, if not; else empty.
        difference (float): largest logit difference on the example or the inputs made up in its place, in eval mode. None if
            nothing was checked, or for new classes.
        largest (float): largest logit of the source there, for comparison.
        input_size (tuple of int): (H, W) of the example. None without
        grid (tuple of int): (h, w) of its evidence. None without
        dilated (tuple of str): layers that gave up their stride for ``output_stride``, or read a finer map.
        left_out (tuple of str): children of the source that the converted model has no use for, such as auxiliary heads.
        num_classes (int): asked for, as a new head. None if the source's were kept
        output_stride (int): asked for. None if not
        checked (str): the inputs on which the conversion was compared with the source, or why on none.
    """

    source: str
    pooling: str
    replaced: tuple[str, ...]
    exact: bool
    reason: str = ""
    difference: float | None = None
    largest: float | None = None
    input_size: tuple[int, ...] | None = None
    grid: tuple[int, ...] | None = None
    dilated: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    num_classes: int | None = None
    output_stride: int | None = None
    checked: str = ""

    @classmethod
    def of(cls, record: dict[str, Any]) -> Conversion:
        """Read a record from JSON, in which tuples have become lists.

        Args:
            record (dict): the fields by name.

        Returns:
            Conversion: the record.

        Raises:
            TypeError: if a field is missing, or one is unknown.
        """
        known: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}
        return cls(**known)

    def __str__(self) -> str:
        lines = [
            ("source", self.source),
            ("pooling", f"{self.pooling}, now last"),
            *(("head", change) for change in self.replaced),
            ("dilated", self._dilated()),
            ("left out", ", ".join(self.left_out)),
            ("evidence", self._evidence()),
            ("logits", "unchanged up to rounding" if self.exact else f"changed: {self.reason}"),
            ("difference", self._difference()),
            ("checked", self.checked),
        ]
        return "\n".join(f"{title:<11}{text}" for title, text in lines if text)

    def _dilated(self) -> str:
        shown = ", ".join(self.dilated[:3])
        return shown if len(self.dilated) <= 3 else f"{shown}, … ({len(self.dilated)} layers)"

    def _difference(self) -> str:
        if self.difference is None:
            return ""
        where = "the example" if self.input_size else "inputs that were made up"
        return f"{self.difference:.2g} at most on {where}, where the largest logit is {self.largest:.2g}"

    def _evidence(self) -> str:
        if self.grid is None or self.input_size is None:
            return ""
        return f"{' x '.join(map(str, self.grid))} for an input of {' x '.join(map(str, self.input_size))}"


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

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of ``inputs`` (N, ...), the means of their evidence maps: (N, K)."""
        return pooled(self.evidence_maps(inputs))


def pooled(evidence: Tensor) -> Tensor:
    """Logits (N, K) of evidence maps (N, K, ...)."""
    return torch.flatten(evidence, 2).mean(dim=2)


def _first_convolution(module: nn.Module) -> nn.Conv1d | nn.Conv2d | nn.Conv3d | None:
    """The first convolution in the order of registration, which for all but exotic networks reads the input."""
    return next((m for m in module.modules() if isinstance(m, CONVOLUTIONS)), None)


def input_channels(module: nn.Module) -> int | None:
    """Channels of the input (N, C, ...) of ``module``, read off its first convolution; None if it has none."""
    first = _first_convolution(module)
    return None if first is None else first.in_channels


def spatial_dims(module: nn.Module) -> int | None:
    """Spatial dimensions of the input of ``module``, read off its first convolution; None if it has none."""
    first = _first_convolution(module)
    return None if first is None else first.weight.dim() - 2


@torch.no_grad()
def run_on_meta(module: nn.Module, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
    """Return the output of ``module`` for an input of ``shape`` on torch's meta device: its shape without its values."""
    state = {name: value.to("meta") for name, value in (*module.named_parameters(), *module.named_buffers())}
    if dtype is None:
        dtype = next((value.dtype for value in state.values() if value.is_floating_point()), torch.float32)
    with _ShapesOnly():
        return cast(Tensor, functional_call(module, state, (torch.empty(shape, device="meta", dtype=dtype),)))


def noise_like(inputs: Tensor, seed: int, rows: int | None = None) -> Tensor:
    """Draw noise around the mean of ``inputs``, of their shape, with values of both signs and beyond theirs."""
    shape = (len(inputs) if rows is None else rows, *inputs.shape[1:])
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(inputs)
    return inputs.mean() + 2 * noise * (inputs.std(correction=0) + 0.1)


class _ShapesOnly(TorchFunctionMode):
    """Skips functions that keep the shape of their input.

    On the meta device PyTorch composes them of many operations in Python (seen in 2.4 to 2.9), which took three quarters of
    the time of a conversion.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if args and func in _KEEPS_SHAPE else func(*args, **(kwargs or {}))
