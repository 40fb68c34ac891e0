"""The names that the examples in docstrings find, and the files that they read in the working directory."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from image_files import draw, write
from layouts import make_layouts
from networks import PooledNet
from torch import Tensor, nn
from torch.utils.data import DataLoader

import captum_softcam


def public_names() -> dict[str, Any]:
    """Return the classes and functions that a public package lists in ``__all__``."""
    found = pkgutil.walk_packages(captum_softcam.__path__, "captum_softcam.")
    packages = ["captum_softcam", *(entry.name for entry in found if entry.ispkg and "._" not in entry.name)]
    named = ((name, getattr(module, name)) for module in map(importlib.import_module, packages) for name in module.__all__)
    return {name: thing for name, thing in named if inspect.isclass(thing) or inspect.isfunction(thing)}


def names_for(owner: str) -> dict[str, Any]:
    """Return what the example of a class or function finds, and write the files that it reads to the working directory."""
    make_layouts(Path())
    names = usual_names(owner)
    PREPARE.get(owner, lambda _: None)(names)
    return names


class Net(nn.Module):
    """The ``model`` of the examples; ``layer4`` has 7 x 7 positions for an image of 224 x 224 pixels."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.layer3 = nn.Sequential(nn.Conv2d(3, 4, 16, stride=16), nn.ReLU())
        self.layer4 = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.avgpool(self.layer4(self.layer3(x))).flatten(1))


class Block(nn.Module):
    """Attention without parameters, after a normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm1(x)
        return x + (tokens @ tokens.mT / 2).softmax(-1) @ tokens


class Transformer(nn.Module):
    """A class token before 14 x 14 others, in a plain tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 4, 16, stride=16)
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT
        return self.head(self.blocks(torch.cat([tokens.mean(1, keepdim=True), tokens], 1))[:, 0])


class Pairs:
    """Ten images of 6 x 6 pixels and their classes."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.full((3, 6, 6), index / 10), torch.tensor(index % 5)


def usual_names(owner: str) -> dict[str, Any]:
    """Return all public names, modules that users have imported, and a model with its images."""
    torch.manual_seed(0)
    names = {**public_names(), "Path": Path, "torch": torch, "torchvision": importlib.import_module("torchvision")}
    names["v2"] = importlib.import_module("torchvision.transforms.v2")
    names["cross_entropy"] = nn.functional.cross_entropy
    names["METRICS"] = captum_softcam.metrics.METRICS
    model: nn.Module = Net()
    if owner == "FeatureLayout":
        model = Transformer()
    elif owner in {"LayerSoftCam", "ElasticNetEvidenceLoss"}:
        model = names["convert_to_softcam"](model)
    images = torch.rand(2, 3, 224, 224)
    names |= {"model": model.eval(), "images": images, "labels": torch.tensor([0, 3]), "targets": torch.tensor([0, 3])}
    names |= {"x_batch": images.numpy(), "y_batch": names["targets"].numpy()}
    return names


def make_results() -> Any:
    """Return a comparison in which SoftCAM has more mass on the mask than Grad-CAM for every sample."""
    import pandas as pd

    lead = {"soft_cam": 0.2, "grad_cam": 0.0}
    rows = [(f"s{i}", 0, 0, 0, name, "relevance_mass_accuracy", i / 20 + lead[name]) for i in range(8) for name in lead]
    columns = ["sample", "label", "target", "prediction", "method", "metric", "score"]
    costs = pd.DataFrame({"forwards": 1.0}, index=list(lead))
    return captum_softcam.evaluation.Comparison(pd.DataFrame(rows, columns=columns), costs, {})


def prepare_comparison(names: dict[str, Any]) -> None:
    names["comparison"] = make_results()
    names["comparison"].save("results")


def prepare_sheet(names: dict[str, Any]) -> None:
    names |= {"classifier": names["load_embedded"](), "sample": names["RetinalLesions"]("test", length=1)[0]}


def prepare_sheets(names: dict[str, Any]) -> None:
    sample = names["Sample"](torch.rand(3, 16, 16), 0, None, "s0")
    maps = {name: torch.rand(1, 4, 4) for name in ("soft_cam", "grad_cam")}
    example = names["Example"](sample, 0, maps, probabilities=torch.tensor([0.75, 0.25]))
    names["comparison"] = replace(make_results(), examples=[example])


def prepare_quantus(names: dict[str, Any]) -> None:
    with torch.no_grad():  # Quantus refuses maps that are negative everywhere
        names["model"].fc.weight.abs_()
    names["quantus"] = importlib.import_module("quantus")


def prepare_table(_names: dict[str, Any]) -> None:
    files = [draw(Path(f"{i}.jpg")) for i in range(8)]
    write(Path("images.csv"), "\n".join(["path,label", *(f"{file},{'ab'[i % 2]}" for i, file in enumerate(files))]))


def prepare_imagenet(names: dict[str, Any]) -> None:
    names["ImageNetSamples"] = partial(names["ImageNetSamples"], classes=["n01440764", "n01751748"])  # not all 1,000


def prepare_file(_names: dict[str, Any]) -> None:
    Path("images/cat/1.jpg").rename("a.png")


def prepare_training(names: dict[str, Any]) -> None:
    trainer = importlib.import_module("lightning").Trainer
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "enable_checkpointing": False}
    names["lightning"] = SimpleNamespace(Trainer=partial(trainer, accelerator="cpu", log_every_n_steps=1, **quiet))
    names["train_classifier"] = partial(names["train_classifier"], accelerator="cpu", show_progress=False)
    names["resnet50"] = PooledNet()
    names["train_loader"] = names["validation_loader"] = DataLoader(Pairs(), batch_size=5)
    names["train"] = names["validation"] = Pairs()
    names["task"] = names["SoftCamTask"](PooledNet(classes=5))


def prepare_models(_names: dict[str, Any]) -> None:
    """Save comparisons of two models; Grad-CAM has more mass on the mask under the other one."""
    one = make_results()
    one.save("one")
    scores = one.scores.copy()
    scores.loc[scores["method"] == "grad_cam", "score"] += 0.1
    replace(one, scores=scores).save("other")


PREPARE = {
    "Comparison": prepare_comparison,
    "write_report": prepare_comparison,
    "plot_sheet": prepare_sheet,
    "write_sheets": prepare_sheets,
    "ImageNetSamples": prepare_imagenet,
    "LayerExplainFunc": prepare_quantus,
    "ModelComparison": prepare_models,
    "quantus_column": prepare_quantus,
    "split_samples": prepare_table,
    "MaskedImages": prepare_file,
    "SoftCamTask": prepare_training,
    "train_classifier": prepare_training,
}
