"""Export of a SoftCAM model to one ONNX file, which computes logits and evidence without PyTorch.

The file contains the weights, the names of the classes, the normalisation and the size of the images. It is written under a
temporary name, and only renamed if its outputs agree with those of the model.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_softcam._files import replacing_path
from captum_softcam._intervention.view import duplicate
from captum_softcam._names import listed, quoted, reason, shown
from captum_softcam.softcam.model import SoftCamModel, noise_like, pooled

__all__ = ["export_onnx"]

_KEY = "captum_softcam"
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_TOLERANCE = 1e-4
_LARGEST = 2**31  # bytes; protobuf reads no larger message
_SIZES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def export_onnx(
    model: SoftCamModel,
    path: str | os.PathLike[str],
    example: Tensor,
    *,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    dynamic_size: bool = True,
) -> Path:
    r"""Export ``model`` to one ONNX file with the outputs ``logits`` and ``evidence``, and check it with onnxruntime.

    The graph has one input, ``images`` (N, C, H, W), and computes both outputs in one pass:

    .. math:: y_k = \frac{1}{hw} \sum_p E_k(p)

    with evidence :math:`E` (N, K, h, w) and logits :math:`y` (N, K). N is dynamic, and so are H and W unless
    ``dynamic_size`` is False. Signals (N, C, L) and volumes (N, C, D, H, W) are exported in the same way.

    The key ``captum_softcam`` of the metadata holds JSON: ``version`` of this package, ``classes`` (None if not passed),
    ``mean`` and ``std`` per channel, ``input_size`` (of the example) and ``dynamic_size``. The file contains no paths or
    names of the machine that wrote it.

    The file is written beside ``path`` under a temporary name. It is run on the example, on other values, and on a batch
    with one image more, which is also larger if the size is dynamic. It is renamed if logits and evidence differ from those
    of PyTorch by at most 1e-4 (1e-4 of the largest value if that is above 1). The model is left untouched, because a copy on
    the CPU is exported.

    Cost: a trace of the model, 2 to 40 seconds for the CNNs of torchvision, and three passes over each of three batches.

    Args:
        model (SoftCamModel): in eval mode, float32.
        path (path): the file to write. Its folder must exist, the file must not.
        example (Tensor): images as the model expects them, (N, C, H, W), float32.
        classes (sequence of str): K names, in the order of the logits; of a single logit one, or those of the classes below
            and above 0. Default: None
        mean (sequence of float): subtracted from each channel of an image in [0, 1]. Default: None, for 0
        std (sequence of float): each channel is divided by it afterwards. Default: None, for 1
        dynamic_size (bool): whether the file accepts images of any size, or of that of the example only. Default: True

    Returns:
        Path: the file.

    Raises:
        TypeError: if ``model`` is not a SoftCamModel, or ``example`` not a tensor.
        ValueError: if the model is in train mode, not float32, or too large for one file; if example, classes or
            normalisation do not fit it; if it cannot be exported, or if the file computes other outputs.
        FileNotFoundError: if the folder of ``path`` does not exist.
        FileExistsError: if ``path`` exists.
        OSError: if the file cannot be written, as on a full disk.
        ImportError: if a package of ``pip install 'captum-softcam[onnx]'`` is missing.

    Example::

        >>> demo = load_embedded()
        >>> images = torch.zeros(1, 3, demo.image_size, demo.image_size)
        >>> export_onnx(demo.model, "lesions.onnx", images, classes=demo.classes, mean=demo.mean, std=demo.std)
        PosixPath('lesions.onnx')
    """
    path = Path(path)
    _check_model(model)
    _check_path(path)
    _check_example(example)
    check_packages()
    reference = duplicate(model).cpu()
    net = _TwoOutputs(duplicate(reference)).eval()
    images = example.detach().cpu()
    header = {
        "version": importlib.metadata.version("captum-softcam"),
        "classes": _names(classes, _count_classes(net, images)),
        "mean": _per_channel("mean", mean, images.shape[1], 0.0),
        "std": _per_channel("std", std, images.shape[1], 1.0),
        "input_size": list(images.shape[2:]),
        "dynamic_size": dynamic_size,
    }
    with replacing_path(path) as file:
        _write(_trace(net, images, dynamic_size), header, file)
        _compare(file, reference, [images, _other_batch(images, dynamic_size), noise_like(images, seed=0)])
    return path


class _TwoOutputs(nn.Module):
    """Logits and evidence from one pass, for a graph that computes the evidence once."""

    def __init__(self, model: SoftCamModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        evidence = self.model.evidence_maps(images)
        return pooled(evidence), evidence


def _check_model(model: object) -> None:
    if not isinstance(model, SoftCamModel):
        raise TypeError(f"export_onnx needs a SoftCamModel; got {type(model).__name__}. Run convert_to_softcam on it first.")
    if any(module.training for module in model.modules()):
        raise ValueError("the model is in train mode; call model.eval() before export_onnx.")
    wrong = {str(p.dtype) for p in model.parameters() if p.dtype != torch.float32}
    if wrong:
        raise ValueError(
            f"export_onnx needs a model in float32; got {listed(sorted(wrong))}. Export copy.deepcopy(model).float()."
        )
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if size >= _LARGEST:
        raise ValueError(
            f"the weights take {size / 2**30:.1f} GiB; one ONNX file holds less than 2. Export a smaller model."
        )


def _check_path(path: Path) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder '{shown(path.parent)}' for '{shown(path.name)}' does not exist; make it first.")
    if path.exists():
        raise FileExistsError(f"'{shown(path)}' exists; remove it or choose another name.")


def _check_example(example: object) -> None:
    if not isinstance(example, Tensor):
        raise TypeError(f"example must be a tensor of images (N, C, H, W); got {type(example).__name__}.")
    if example.dim() - 2 not in _SIZES or not example.numel() or example.dtype != torch.float32:
        raise ValueError(
            f"example must be a float32 batch (N, C, H, W), or one of signals or volumes; got {tuple(example.shape)}, "
            f"{example.dtype}."
        )


def check_packages() -> None:
    """Raise ImportError if a package that the export needs is missing."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"export_onnx needs {listed(missing)}; run: pip install 'captum-softcam[onnx]'.")


def _count_classes(net: _TwoOutputs, images: Tensor) -> int:
    try:
        with torch.no_grad():
            logits: Tensor = net(images)[0]
    except (RuntimeError, ValueError) as error:  # both are raised for wrong shapes
        raise ValueError(f"the model cannot be run on the example {tuple(images.shape)}: {reason(error)}") from error
    return logits.shape[1]


def _names(classes: Sequence[str] | None, count: int) -> list[str] | None:
    if classes is None:
        return None
    # A single logit has two classes, that below and that above 0.
    if isinstance(classes, str) or len(classes) not in {count, max(count, 2)}:
        raise ValueError(f"classes must be {count} names, one per logit; got {quoted(classes)}.")
    return list(classes)


def _per_channel(what: str, values: Sequence[float] | None, channels: int, default: float) -> list[float]:
    found = [default] * channels if values is None else [float(value) for value in values]
    if len(found) != channels or not all(map(math.isfinite, found)) or (what == "std" and min(found) <= 0):
        kind = "positive numbers" if what == "std" else "numbers"
        raise ValueError(f"{what} must be {channels} {kind}, one per channel of the example; got {quoted(values)}.")
    return found


def _trace(net: _TwoOutputs, images: Tensor, dynamic_size: bool) -> Any:
    """Export ``net`` to an ONNX program."""
    sizes = _SIZES[images.dim() - 2] if dynamic_size else ()
    try:
        with _without_chatter():
            return torch.onnx.export(
                net,
                (_repeated(images, 0, 1),),  # because torch.export treats a batch of one as constant
                input_names=["images"],
                output_names=["logits", "evidence"],
                dynamic_shapes=({0: "batch", **dict(enumerate(sizes, start=2))},),
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(_no_export(error, sizes)) from error


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Suppress the output of the tracer and its warnings about inequalities of sizes; exceptions contain the same."""
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _no_export(error: Exception, sizes: Sequence[str]) -> str:
    lines = str(error.__cause__ or error).strip().splitlines()
    reason = " ".join(line.strip(" -") for line in lines[:2])
    if sizes:
        return (
            f"the model cannot be exported for any {' and '.join(sizes)} ({reason}). With dynamic_size=False the file "
            "accepts images of the example's size only."
        )
    return f"the model cannot be exported ({reason}). ONNX needs a model whose steps do not depend on the values it reads."


def _write(program: Any, header: dict[str, Any], file: Path) -> None:
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # contains stack traces with paths of the user's source files
    program.model.metadata_props[_KEY] = json.dumps(header)
    program.save(file, external_data=False)


def _repeated(images: Tensor, dim: int, more: int) -> Tensor:
    """Extend ``images`` periodically by ``more`` along ``dim``."""
    size = images.shape[dim]
    return images.index_select(dim, torch.arange(size + more) % size)


def _other_batch(images: Tensor, dynamic_size: bool) -> Tensor:
    """Add one image and, if the size is dynamic, a different number of pixels along each side."""
    other = _repeated(images, 0, 1)
    for dim in range(2, images.dim() if dynamic_size else 2):
        other = _repeated(other, dim, 10 * dim + 1)
    return other


def _compare(file: Path, model: SoftCamModel, batches: Sequence[Tensor]) -> None:
    """Run the file with onnxruntime, and raise ValueError if its outputs differ from those of PyTorch."""
    import onnxruntime  # type: ignore[import-untyped]  # no py.typed in its wheel

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for images in batches:
        with torch.no_grad():
            wanted = {"logits": model(images), "evidence": model.evidence_maps(images)}
        try:
            given = session.run(list(wanted), {"images": images.numpy()})
        except Exception as error:  # onnxruntime's errors have no common class
            raise ValueError(f"the exported file cannot be run on {tuple(images.shape)}: {reason(error)}") from error
        for (name, want), got in zip(wanted.items(), given, strict=True):
            _check_agreement(name, want, torch.from_numpy(got), images)


def _check_agreement(name: str, want: Tensor, got: Tensor, images: Tensor) -> None:
    where = f"{name} of the exported file for images {tuple(images.shape)}"
    advice = "The file was not kept. If only other sizes than the example's differ, dynamic_size=False leaves them out."
    if got.shape != want.shape:
        raise ValueError(f"{where} have shape {tuple(got.shape)}, PyTorch's {tuple(want.shape)}. {advice}")
    difference = float((got - want).abs().max())
    allowed = _TOLERANCE * max(1.0, float(want.abs().max()))
    if not difference <= allowed:  # so that NaN is refused as well
        raise ValueError(f"{where} differ from PyTorch's by {difference:.2g}, more than the {allowed:.2g} allowed. {advice}")
