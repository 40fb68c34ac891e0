"""The self-explaining model of SoftCAM: class evidence first, pooling last.

A pooled classifier computes ``features -> pool -> head -> logits``. SoftCAM swaps pooling and head,
``features -> head at every position -> pool -> logits``, so that the logits are means of the map that is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from captum_softcam._names import reason, shown
from captum_softcam._tables import html_table

__all__ = [
    "CONVOLUTIONS",
    "Conversion",
    "EvidenceHead",
    "ShapesOnly",
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

    A chain of per-position layers (1x1 convolutions, dropout, activations), the last of which is a convolution with one
    output channel per class. It is empty if the classifier was before the pooling already (SqueezeNet). Its output is the
    class evidence, whose mean over the positions is the logit.

    Args:
        *args (torch.nn.Module): the layers in order, as for ``torch.nn.Sequential``.

    Raises:
        TypeError: if a layer is not a module.

    Example::

        >>> EvidenceHead(torch.nn.Conv2d(512, 5, 1))(torch.zeros(2, 512, 7, 7)).shape
        torch.Size([2, 5, 7, 7])
    """


@dataclass(frozen=True)
class Conversion:
    """Record of a conversion, in ``SoftCamModel.conversion``; ``print`` shows it as a table.

    Args:
        source (str): class of the model, with its module.
        pooling (str): the step that was moved behind the classifier.
        replaced (tuple of str): each replaced layer of the head and its replacement.
        exact (bool): whether the logits are those of the source up to rounding: of the largest logit or evidence, at most
            1e-5 in float32, 1e-10 in float64, 0.01 in float16, 0.05 in bfloat16, and 0.01 if a GPU rounds to TF32.
        reason (str): why the logits changed; empty if they did not.
        difference (float): largest difference of the logits, in eval mode, on the example or on made-up inputs. None if
            nothing was checked, or for new classes.
        largest (float): largest logit of the source on the same inputs.
        input_size (tuple of int): (H, W) of the example. None without an example
        grid (tuple of int): (h, w) of its evidence. None without an example
        dilated (tuple of str): layers whose stride or dilation changed for ``output_stride``.
        left_out (tuple of str): children of the source that are not part of the conversion, such as auxiliary heads, and
            functions behind the logits, such as ``log_softmax``; ``exact`` then compares their results.
        num_classes (int): outputs of the new last layer. None if that of the source was kept
        output_stride (int): the argument of the conversion. None if it was not passed
        checked (str): the inputs on which the conversion was compared with the source, or why there were none.
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
        """Create a record from JSON, in which tuples have become lists.

        Args:
            record (dict): the fields by name.

        Returns:
            Conversion: the record.

        Raises:
            TypeError: if a field is missing, or one is unknown.
        """
        known: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}
        return cls(**known)

    def __repr__(self) -> str:
        logits = "exact" if self.exact else "logits changed"
        return f"Conversion({shown(self.source)}, {logits}{', evidence ' * bool(self.grid)}{self._evidence()})"

    def __str__(self) -> str:
        return "\n".join(f"{title:<11}{text}" for title, text in self._lines())

    def _repr_html_(self) -> str:
        return html_table((), [("", line) for line in self._lines()], texts=(1,))

    def _lines(self) -> list[tuple[str, str]]:
        """Return what the record says, each with a title."""
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
        return [(title, text) for title, text in lines if text]

    def _dilated(self) -> str:
        first = ", ".join(self.dilated[:3])
        return first if len(self.dilated) <= 3 else f"{first}, … ({len(self.dilated)} layers)"

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

    Cost: one forward of the source classifier, with the head at h*w positions instead of one.

    Args:
        backbone (torch.nn.Module): computes the feature map (N, C, h, w).
        evidence (EvidenceHead): computes the class evidence (N, K, h, w) of a feature map.

    ``conversion`` is the record of :func:`convert_to_softcam`, or None for a model that was built by hand.

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
        """Compute the evidence for all classes. Cost: one forward.

        Args:
            inputs (Tensor): images (N, ...), in the form that the backbone expects.

        Returns:
            Tensor: (N, K, h, w), signed, in units of the logit.
        """
        return cast(Tensor, self.evidence(self.backbone(inputs)))

    def evidence_grid(self, *size: int) -> tuple[int, ...]:
        """Return the grid of the evidence for an input of some size, without computing any values.

        Args:
            *size (int): of the input in pixels, (H, W).

        Returns:
            tuple of int: positions of the evidence, (h, w).

        Raises:
            ValueError: if the input is too small, or if the backbone has no convolution to read the channels off.
        """
        channels = input_channels(self.backbone)
        if channels is None:
            raise ValueError("the backbone has no convolution to read the channels off; call evidence_maps instead.")
        try:  # a convolution or pool whose window exceeds its input raises RuntimeError on the meta device, too
            return tuple(run_on_meta(self.backbone, (1, channels, *size)).shape[2:])
        except RuntimeError as error:
            sides = " x ".join(map(str, size))
            raise ValueError(f"the network does not run at {sides} pixels: {reason(error)}") from error

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the logits (N, K) of ``inputs`` (N, ...), the means of their evidence maps."""
        return pooled(self.evidence_maps(inputs))


def pooled(evidence: Tensor) -> Tensor:
    """Average evidence maps (N, K, ...) to logits (N, K)."""
    return torch.flatten(evidence, 2).mean(dim=2)


def _first_convolution(module: nn.Module) -> nn.Conv1d | nn.Conv2d | nn.Conv3d | None:
    """Return the first registered convolution, which reads the input in all but unusual networks."""
    return next((m for m in module.modules() if isinstance(m, CONVOLUTIONS)), None)


def input_channels(module: nn.Module) -> int | None:
    """Return the number of channels of the input (N, C, ...), or None for a module without convolutions."""
    first = _first_convolution(module)
    return None if first is None else first.in_channels


def spatial_dims(module: nn.Module) -> int | None:
    """Return the number of spatial dimensions of the input, or None for a module without convolutions."""
    first = _first_convolution(module)
    return None if first is None else first.weight.dim() - 2


@torch.no_grad()
def run_on_meta(module: nn.Module, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
    """Return the output of ``module`` for an input of ``shape`` on torch's meta device: its shape without its values."""
    # functional_call replaces parameters during the call only, which saves a copy of the model.
    state = {name: value.to("meta") for name, value in (*module.named_parameters(), *module.named_buffers())}
    if dtype is None:
        dtype = next((value.dtype for value in state.values() if value.is_floating_point()), torch.float32)
    with ShapesOnly():
        return cast(Tensor, functional_call(module, state, (torch.empty(shape, device="meta", dtype=dtype),)))


def noise_like(inputs: Tensor, seed: int, rows: int | None = None) -> Tensor:
    """Draw noise around the mean of ``inputs``, of their shape, with values of both signs and beyond theirs."""
    shape = (len(inputs) if rows is None else rows, *inputs.shape[1:])
    # Drawn on the CPU, so that all devices get the same values. The default correction makes the standard deviation of a
    # single value NaN, and that of a blank image is 0, hence the added 0.1.
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(inputs)
    return inputs.mean() + 2 * noise * (inputs.std(correction=0) + 0.1)


class ShapesOnly(TorchFunctionMode):
    """Skips functions that keep the shape of their input.

    On the meta device PyTorch decomposes them into many operations in Python, which took three quarters of the time of a
    conversion.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if args and func in _KEEPS_SHAPE else func(*args, **(kwargs or {}))
