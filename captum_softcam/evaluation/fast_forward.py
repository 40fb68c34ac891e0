"""A faster copy of a model for the forwards of a comparison that need no gradients, checked against the model itself."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_weights

from captum_softcam._intervention.view import duplicate
from captum_softcam._names import listed, quoted, reason
from captum_softcam.evaluation.costs import device_of

__all__ = ["PASSES", "FastForward", "Passes", "check_passes"]

Passes = Literal["fast", "plain", "bfloat16"]
PASSES = ("fast", "plain", "bfloat16")

_TOLERANCE = 1e-5
"""Largest difference of an output from that of the model, relative to the largest output or to 1."""
_COARSE = 0.1
"""The same in bfloat16, which has three digits. It distinguishes a copy that fails from one that rounds."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class FastForward:
    """A function of images that returns what a model returns, to five digits, in less time.

    Most of the time of a comparison passes in forwards of perturbed images. They run in a private copy of the model in which
    batch normalisations are folded into the convolutions before them, the activations that follow are computed by the same
    kernel, and tensors are stored channels last. The copy keeps the modules' names and the Python code of the model, so that
    a forward may depend on the data and batches may have any size.

    The copy is made when it runs for the first time, and compared with the model on the images that :meth:`expect` received
    last and on altered ones. It is compared again on the images of every later :meth:`expect`, before it runs on them. Where
    it gives anything else, fails, or cannot be made, the model itself runs, as it does where gradients are enabled, and
    always if it has hooks, which belong to the user.

    Args:
        model (torch.nn.Module): in eval mode, (N, C, ...) -> (N, K). It is not changed.
        passes (str): ``"fast"``; ``"plain"``, which always runs the model itself; or ``"bfloat16"``, which runs the copy in
            half precision, and warns where that is not possible. Default: ``"fast"``
        kept (collection of str): names of layers whose inputs and outputs the copy has, too. Default: none

    Attributes:
        why_plain: the reason why the model itself runs; None if the copy does, or nothing was run so far.
    """

    def __init__(self, model: nn.Module, passes: Passes = "fast", kept: Collection[str] = ()) -> None:
        self.model, self.passes, self.kept = model, passes, frozenset(kept)
        self.why_plain = "plain forwards were asked for" if passes == "plain" else _obstacle(model)
        self._copy: nn.Module | None = None
        self._coarse: nn.Module | None = None
        self._prepared = False
        self._expected: tuple[Tensor, Tensor] | None = None
        self._tell()

    def __getstate__(self) -> dict[str, Any]:
        # A worker makes its own copy, for its own device.
        return {**vars(self), "_copy": None, "_coarse": None, "_prepared": False, "_expected": None}

    def __call__(self, images: Tensor) -> Tensor:
        """Return the outputs of the model for images (N, C, ...), (N, K)."""
        if torch.is_grad_enabled():
            return cast(Tensor, self.model(images))
        self._verify()
        fast = self._copy if self._coarse is None else self._coarse
        return cast(Tensor, self.model(images)) if fast is None else _run(fast, images)

    @property
    def exact(self) -> nn.Module:
        """The copy in the precision of the model, with the same names of modules, for methods that follow no gradients.

        It is the model itself where no copy runs.
        """
        self._verify()
        return self.model if self._copy is None else self._copy

    def expect(self, images: Tensor, outputs: Tensor) -> None:
        """Set outputs of the model that are known, with which the copy is compared before it runs again.

        Args:
            images (Tensor): (N, C, ...).
            outputs (Tensor): of the model for these images, (N, K).

        Cost: nothing by itself. The next run costs one more forward of the copy; the first also one of the model.
        """
        self._expected = images, outputs

    @torch.no_grad()
    def _verify(self) -> None:
        """Compare the copy with the outputs that are expected; make the copy if there is none yet."""
        expected, self._expected = self._expected, None
        if self.why_plain is not None or expected is None:
            return
        try:
            images, known = expected[0], [expected]
            if not self._prepared:
                self._prepare(images[:1])
                altered = 0.5 * images.flip(-1)
                known.append((altered, self.model(altered)))
            copies = ((self._copy, _TOLERANCE), (self._coarse, _COARSE))
            agrees = all(
                _agree(_run(fast, shown), wanted, tolerance)
                for shown, wanted in known
                for fast, tolerance in copies
                if fast is not None
            )
            self.why_plain = None if agrees else "a faster copy of the model gives other outputs"
        except Exception as error:  # of any kind: the code of the model is the user's
            self.why_plain = f"a faster copy of the model fails with {type(error).__name__}: {reason(error)}"
        if self.why_plain is not None:
            self._copy = self._coarse = None
            self._tell()

    def _prepare(self, image: Tensor) -> None:
        self._prepared = True
        self._copy = _faster_copy(self.model, image, self.kept)
        if self.passes == "bfloat16":
            self._coarse = (duplicate(self.model) if self._copy is None else copy.deepcopy(self._copy)).bfloat16()

    def _tell(self) -> None:
        """Warn a user who asked for another precision than that which runs."""
        if self.passes == "bfloat16" and self.why_plain is not None:
            warnings.warn(f"the forwards run in the model's own precision: {self.why_plain}.", UserWarning, stacklevel=4)


def check_passes(passes: object) -> None:
    """Raise ValueError unless ``passes`` is one of :data:`PASSES`."""
    if passes not in PASSES:
        raise ValueError(f"passes is {quoted(passes)}; expected one of {listed(PASSES)}.")


def _obstacle(model: nn.Module) -> str | None:
    """Return why a copy cannot replace the model, None if it can."""
    for name, module in model.named_modules():
        if any(getattr(module, kind) for kind in _HOOKS):
            return f"module '{name}' has hooks, which only the model itself runs"
        if isinstance(module, (torch.jit.ScriptModule, nn.DataParallel)) or hasattr(module, "_orig_mod"):
            return f"module '{name}' is compiled or distributed already"
    devices = {parameter.device.type for parameter in model.parameters()}
    return None if devices <= {"cpu", "cuda"} else f"a faster way is known for CPU and CUDA, not for {sorted(devices)}"


def _run(fast: nn.Module, images: Tensor) -> Tensor:
    precision = next((parameter.dtype for parameter in fast.parameters()), images.dtype)
    outputs: Tensor = fast(images.to(precision))
    return outputs.to(images.dtype)


def _agree(outputs: Tensor, wanted: Tensor, tolerance: float) -> bool:
    """Return whether outputs are those that are wanted, up to rounding."""
    if outputs.shape != wanted.shape or outputs.dtype != wanted.dtype:
        return False
    scale = max(1.0, wanted[wanted.isfinite()].abs().max().item()) if wanted.isfinite().any() else 1.0
    # An image that is not finite has outputs of NaN in both.
    return torch.allclose(outputs, wanted, rtol=0, atol=tolerance * scale, equal_nan=True)


def _faster_copy(model: nn.Module, image: Tensor, kept: Collection[str]) -> nn.Module | None:
    """Return a copy with folded normalisations, channels last; None if there is nothing to gain."""
    fast: nn.Module = duplicate(model).requires_grad_(False)
    modules = dict(fast.named_modules())
    # Neither the output of a kept layer may change, nor its input.
    after = {name: behind for name, behind in _followers(fast, image).items() if not {name, behind} & set(kept)}
    folded = [
        (name, after[name])
        for name, module in modules.items()
        if isinstance(module, _CONVOLUTIONS) and _can_fold(module, modules.get(after.get(name, "")))
    ]
    on_cpu = device_of(fast).type == "cpu"
    for convolution, norm in folded:
        _fold(modules[convolution], modules[norm])
        # Batch normalisations of timm contain their activation.
        _replace(fast, norm, copy.deepcopy(getattr(modules[norm], "act", nn.Identity())))
    if on_cpu:
        ends = {name: name for name in modules} | dict(folded)
        for name, module in modules.items():
            activation = after.get(ends[name], "")
            _fuse_activation(fast, name, module, activation, modules.get(activation))
    # On a CPU, a normalisation that is left takes several times as long with the channels last.
    if on_cpu and not any(isinstance(module, _NORMS) for module in fast.modules()):
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        for parameter in fast.parameters():
            if parameter.dim() in formats:
                parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])
    # One convolution alone cuts the image into the patches of a transformer, where there is nothing to gain.
    return fast if folded or sum(isinstance(module, _CONVOLUTIONS) for module in modules.values()) > 1 else None


def _followers(model: nn.Module, image: Tensor) -> dict[str, str]:
    """Return, by the name of each module, the module that its very output enters, if both run once and it is the only one.

    Only convolutions, normalisations and activations are observed. A use of the output in the code of a module is not seen;
    the check of the outputs finds it.
    """
    runs: Counter[str] = Counter()
    made: dict[int, tuple[str, int, Tensor]] = {}  # the tensor keeps its id from being used again
    found: dict[str, list[str]] = {}

    def before(name: str, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        runs[name] += 1
        source, version, _ = made.get(id(inputs[0]), ("", -1, None)) if inputs else ("", -1, None)
        # An addition in place leaves the object and changes its version.
        if source and version == inputs[0]._version:
            found.setdefault(source, []).append(name)

    def behind(name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            made[id(output)] = name, output._version, output

    handles = []
    observed: tuple[type[nn.Module], ...] = (*_CONVOLUTIONS, *_NORMS, *_ACTIVATIONS)
    for name, module in model.named_modules():
        if isinstance(module, observed):
            handles.append(module.register_forward_pre_hook(partial(before, name)))
            handles.append(module.register_forward_hook(partial(behind, name)))
    try:
        model(image)
    finally:
        for handle in handles:
            handle.remove()
    once = {name for name, count in runs.items() if count == 1}
    return {name: after[0] for name, after in found.items() if {name, *after} <= once and len(after) == 1}


def _can_fold(convolution: nn.Module, norm: nn.Module | None) -> bool:
    if not isinstance(norm, _NORMS) or norm.training or norm.running_mean is None:
        return False
    if parametrize.is_parametrized(convolution) or parametrize.is_parametrized(norm):
        return False
    # A class of its own may do more than normalise; that of timm activates, which the copy does as well.
    return type(norm) in _NORMS or hasattr(norm, "act")


def _fold(convolution: Any, norm: Any) -> None:
    """Scale the weights of a convolution as the normalisation that follows scales its output."""
    own: list[Any] = [convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias]
    weight, bias, mean, variance, scale, shift = (None if value is None else value.double() for value in own)
    folded = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, scale, shift)  # type: ignore[arg-type]  # None will do
    precision = convolution.weight.dtype
    convolution.weight, convolution.bias = (nn.Parameter(value.to(precision), requires_grad=False) for value in folded)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)


_ACTIVATIONS: Mapping[type[nn.Module], Callable[[Any], tuple[str, list[Any]]]] = {
    nn.ReLU: lambda _: ("relu", []),
    nn.ReLU6: lambda _: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: lambda _: ("swish", []),
    nn.Hardswish: lambda _: ("hardswish", []),
    nn.LeakyReLU: lambda module: ("leaky_relu", [module.negative_slope]),
}
"""Activations that the convolutions of oneDNN compute, by their names and constants there."""


class _Convolution(nn.Module):
    """A convolution and the activation of its output, by one kernel of oneDNN.

    Args:
        convolution (torch.nn.Conv2d): on the CPU, padded by zeros.
        activation (tuple): its name and constants in oneDNN.
    """

    def __init__(self, convolution: nn.Conv2d, activation: tuple[str, list[Any]]) -> None:
        super().__init__()
        self.convolution, self.activation = convolution, activation

    def forward(self, images: Tensor) -> Tensor:
        """Return the activated output."""
        own = self.convolution
        sizes = own.padding, own.stride, own.dilation, own.groups
        run: Callable[..., Tensor] = torch.ops.mkldnn._convolution_pointwise
        return run(images, own.weight, own.bias, *sizes, *self.activation, "")


def _fuse_activation(model: nn.Module, name: str, convolution: nn.Module, follower: str, activation: Any) -> None:
    """Let a convolution compute the activation that follows it, where it can."""
    if type(convolution) is not nn.Conv2d or type(activation) not in _ACTIVATIONS:
        return
    plain = convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)
    supported = convolution.weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    if plain and supported and hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        _replace(model, name, _Convolution(convolution, _ACTIVATIONS[type(activation)](activation)))
        _replace(model, follower, nn.Identity())
