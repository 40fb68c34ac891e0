"""The examples in the docstrings of all public names run, and print what they say they print."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import PooledNet
from image_files import draw, write
from layouts import make_layouts
from torch import Tensor, nn
from torch.utils.data import DataLoader

import captum_softcam

ROOT = Path(captum_softcam.__path__[0])
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
EXTRAS = {"SoftCamTask": "lightning", "train_classifier": "lightning", "export_onnx": "onnxscript"}


def packages() -> list[str]:
    found = pkgutil.walk_packages(captum_softcam.__path__, "captum_softcam.")
    return ["captum_softcam", *(entry.name for entry in found if entry.ispkg and "._" not in entry.name)]


def public() -> dict[str, Any]:
    """Everything that a package names in ``__all__`` by its name; functions of tensors, too."""
    modules = [importlib.import_module(name) for name in [*packages(), "captum_softcam.metrics.functional"]]
    named = ((name, getattr(module, name)) for module in modules for name in module.__all__)
    return {name: thing for name, thing in named if inspect.isclass(thing) or inspect.isfunction(thing)}


def examples() -> list[doctest.DocTest]:
    """Those of classes, their methods, and functions."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for name, thing in sorted(public().items()) for test in finder.find(thing, name) if test.examples]


def written() -> set[tuple[str, str]]:
    """File and name of everything, public or not, whose docstring promises an example or has one."""
    found = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                text = ast.get_docstring(node) or ""
                if "Example::" in text or "Examples::" in text or ">>>" in text:
                    found.add((path.relative_to(ROOT).as_posix(), getattr(node, "name", "")))
    return found


EXAMPLES = examples()


def test_every_example_that_is_written_is_run():
    run = {(Path(test.filename).relative_to(ROOT).as_posix(), test.name.rpartition(".")[2]) for test in EXAMPLES}
    assert run == written()
    assert len(EXAMPLES) > 30


class Net(nn.Module):
    """What the examples call a model: its last layer gives 7 x 7 positions of an image with 224 x 224."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.layer3 = nn.Sequential(nn.Conv2d(3, 4, 16, stride=16), nn.ReLU())
        self.layer4 = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.avgpool(self.layer4(self.layer3(x))).flatten(1))


class Block(nn.Module):
    """Attention without learned parts, behind a normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm1(x)
        return x + (tokens @ tokens.mT / 2).softmax(-1) @ tokens


class Transformer(nn.Module):
    """A class token before 14 x 14 others, and nothing that says so."""

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
    """What an example finds: the public names, the modules that everybody has, a model and images for it."""
    torch.manual_seed(0)
    names = {**public(), "Path": Path, "torch": torch, "torchvision": importlib.import_module("torchvision")}
    names["v2"] = importlib.import_module("torchvision.transforms.v2")
    names["cross_entropy"] = nn.functional.cross_entropy
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
    """A comparison in which SoftCAM's map of every sample has more mass on the mask than Grad-CAM's."""
    import pandas as pd

    lead = {"soft_cam": 0.2, "grad_cam": 0.0}
    rows = [(f"s{i}", 0, 0, 0, name, "relevance_mass_accuracy", i / 20 + lead[name]) for i in range(8) for name in lead]
    columns = ["sample", "label", "target", "prediction", "method", "metric", "score"]
    costs = pd.DataFrame({"forwards": 1.0}, index=list(lead))
    return captum_softcam.evaluation.Comparison(pd.DataFrame(rows, columns=columns), costs, {})


def prepare_comparison(names: dict[str, Any]) -> None:
    names["comparison"] = make_results()
    names["comparison"].save("results")


def prepare_quantus(names: dict[str, Any]) -> None:
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


PREPARE = {
    "Comparison": prepare_comparison,
    "write_report": prepare_comparison,
    "ImageNetSamples": prepare_imagenet,
    "LayerExplainFunc": prepare_quantus,
    "split_samples": prepare_table,
    "MaskedImages": prepare_file,
    "SoftCamTask": prepare_training,
    "train_classifier": prepare_training,
}


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's own affair with PyTorch
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example(example, tmp_path, monkeypatch):
    owner = example.name.partition(".")[0]
    if owner in EXTRAS:
        pytest.importorskip(EXTRAS[owner])
    make_layouts(tmp_path)
    monkeypatch.chdir(tmp_path)
    example.globs = usual_names(owner)
    PREPARE.get(owner, lambda _: None)(example.globs)
    answers: list[str] = []
    failed, tried = doctest.DocTestRunner(optionflags=OPTIONS).run(example, out=answers.append, clear_globs=False)
    assert (failed, tried) == (0, len(example.examples)), "".join(answers)
