"""Try every classifier of torchvision, and timm's that the tests convert, and write the table of what works with which.

    python benchmarks/architecture_table.py > docs/reference/architectures_measured.md

Weights are random, layers are those that ``suggest_layers`` recommends, inputs are small. Models of one family with the same
outcome share a row. Models of timm are named timm/NAME. Takes about nine minutes on two
cores; the largest network takes 10 GB.
"""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import timm
import torch
import torchvision
from conversion_table import chosen, names, network, settled
from shared import table
from torch import Tensor, nn

from captum_softcam import LayerClassActivationMap, LayerReciproCam, convert_to_softcam, suggest_layers

HEADER = ("models", "SoftCAM", "finer", "Recipro-CAM", "CAM", "layer")
TIMM_TESTS = Path(__file__).parents[1] / "tests/softcam/test_timm.py"
REASONS = {  # error messages of the library, in fewer words
    "behind layer .* the model does more than pool": "no: more than pooling",
    "between pooling and scores stands ([^;]*);": r"no: \1",
    "single positions or tokens": "refused: class token",
}


def main() -> None:
    """Print the table."""
    models = chosen(__doc__, [*names(), *_timm_names()])
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__} and timm {timm.__version__}"
    families = groupby(_rows(models), key=lambda row: (row[0], row[2]))
    rows = ((", ".join(name for _, name, _ in family), *cells) for (_, cells), family in families)
    print(f"Measured with {versions}.\n\n{table(HEADER, rows, 'llllll')}")


def _rows(models: list[str]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield family, name and outcome of each model, families together."""
    for name in sorted(models, key=lambda name: (name.startswith("timm/"), models.index(name))):
        model, images = _timm_network(name) if name.startswith("timm/") else network(name)
        _wake(model)
        print(name, file=sys.stderr)
        yield re.split(r"[\d_]", name.removeprefix("timm/"))[0], name, (*_softcam(model, images), *_maps(model, images[:1]))


def _wake(model: nn.Module) -> None:
    """Draw the weights of a classifier that starts at zero, as those of vision transformers do."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.02)


def _maps(model: nn.Module, images: Tensor) -> tuple[str, str, str]:
    """Return the outcome of two methods at the recommended layer, and its name."""
    best = next((choice for choice in suggest_layers(model, images) if choice.recommended), None)
    if best is None:
        return ("no: no map", "no: no map", "none")
    layer = model.get_submodule(best.name)
    passes = "one run" if best.passes == 0 else "tail per position"

    def told(method: type, words: str) -> str:
        maps = method(model, layer).attribute(images, target=0)
        if maps.shape != (1, 1, *best.grid) or not maps.isfinite().all() or maps.std() == 0:
            raise AssertionError(f"{method.__name__} has no map of {best.name}: {maps}")
        return words

    recipro_cam, cam = (
        _outcome(lambda: told(LayerReciproCam, passes)),
        _outcome(lambda: told(LayerClassActivationMap, "yes")),
    )
    return recipro_cam, cam, f"`{best.name}`"


def _softcam(model: nn.Module, images: Tensor) -> tuple[str, str]:
    """Return what the conversion does to the logits, and the strides that it reaches."""
    said = _outcome(lambda: "same logits" if convert_to_softcam(model, images).conversion.exact else "other logits")
    if "refused" in said:
        return said, ""
    return said, ", ".join(f"{stride}" for stride in (16, 8) if _reaches(model, images, stride)) or "no"


def _reaches(model: nn.Module, images: Tensor, stride: int) -> bool:
    try:
        convert_to_softcam(model, images, output_stride=stride)
    except ValueError:
        return False
    return True


def _outcome(attempt: Callable[[], str]) -> str:
    """Return the result of an attempt, or the reason of its error."""
    try:
        return attempt()
    except ValueError as error:
        for pattern, words in REASONS.items():
            if found := re.search(pattern, str(error)):
                return found.expand(words)
        return f"no: {str(error).splitlines()[0]}"


def _timm_names() -> list[str]:
    lists = runpy.run_path(str(TIMM_TESTS))
    return [f"timm/{name}" for key in ("MODELS", "MEAN_OF_TOKENS", "CLASS_TOKEN") for name in lists[key]]


def _timm_network(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = timm.create_model(name.removeprefix("timm/"), num_classes=10)
    side = 224 if "224" in name or "mixer" in name else 96
    images = torch.rand(2, 3, side, side)
    return settled(model, images), images


if __name__ == "__main__":
    main()
