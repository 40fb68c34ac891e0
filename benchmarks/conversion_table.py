"""Convert every classifier of torchvision, with random weights, and write the table of what happens.

    python benchmarks/conversion_table.py > docs/reference/conversion_measured.md

Normalisations see one batch first, as in training; otherwise the logits of deep networks vanish or overflow.
Takes about ten minutes on two cores; the largest network takes 10 GB.
"""

from __future__ import annotations

import argparse
import sys
import warnings

import torch
import torchvision
from shared import table
from torch import nn

from captum_softcam.softcam import Conversion, convert_to_softcam

HEADER = ("model", "logits", "largest difference", "largest logit", "evidence", "stride 16", "stride 8")


def main() -> None:
    """Print the table."""
    models = chosen(__doc__, names())
    print(f"Measured with torch {torch.__version__}, torchvision {torchvision.__version__}.\n")
    print(table(HEADER, map(_row, models), "llrrlll"))


def chosen(description: str, known: list[str]) -> list[str]:
    """Return the names of models on the command line, and set the number of threads."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="names of models (default: all)")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", FutureWarning)  # of GoogLeNet and Inception, about how they draw their weights
    return options.only or known


def names() -> list[str]:
    """List the classifiers of torchvision, for images and for videos."""
    images = torchvision.models.list_models(module=torchvision.models)
    return [*images, *torchvision.models.list_models(module=torchvision.models.video)]


def _row(name: str) -> list[str]:
    """Describe the conversion of one model, or why it is refused."""
    print(name, file=sys.stderr)
    model, images = network(name)
    try:
        conversion = convert_to_softcam(model, images).conversion
    except ValueError as error:
        return [name, f"refused: {_reason(error)}", *[""] * (len(HEADER) - 2)]
    size, grid = ("×".join(map(str, sides)) for sides in (conversion.input_size, conversion.grid))
    figures = [f"{conversion.difference:.1e}", f"{conversion.largest:.2g}", f"{grid} of {size}"]
    return [name, _logits(conversion), *figures, *(_finer(model, images, stride) for stride in (16, 8))]


def network(name: str) -> tuple[nn.Module, torch.Tensor]:
    """Return a model with random weights whose normalisations have seen one batch, and that batch."""
    torch.manual_seed(0)
    arguments = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, weights=None, **arguments)
    images = torch.rand(2, *_size(name))
    if hasattr(model, "aux_logits"):
        model.aux_logits, model.AuxLogits, model.aux1, model.aux2 = False, None, None, None
    return settled(model, images), images


def settled(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """Return the model in eval mode, after its normalisations have seen the images."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        model(images)
    return model.eval()


def _size(name: str) -> tuple[int, ...]:
    """Return the smallest input size that the model takes, batch left out."""
    if name.startswith("mvit"):
        return (3, 16, 224, 224)
    if name == "s3d":
        return (3, 16, 224, 224)
    if name in torchvision.models.list_models(module=torchvision.models.video):
        return (3, 8, 64, 64)
    fixed = {"inception_v3": 139, "maxvit_t": 224, "vit_h_14": 224}
    return (3, *[fixed.get(name, 224 if name.startswith("vit") else 96)] * 2)


def _logits(conversion: Conversion) -> str:
    return "unchanged" if conversion.exact else f"changed: {conversion.reason}"


def _finer(model: nn.Module, images: torch.Tensor, stride: int) -> str:
    """Return the grid at a finer stride, or a dash if no layer can be dilated to it."""
    try:
        grid = convert_to_softcam(model, output_stride=stride).evidence_grid(*images.shape[2:])
    except ValueError:
        return "—"
    return "×".join(map(str, grid))


def _reason(error: ValueError) -> str:
    return "reads a class token" if "single positions or tokens" in str(error) else str(error).splitlines()[0]


if __name__ == "__main__":
    main()
