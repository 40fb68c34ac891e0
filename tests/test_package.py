"""The package as a whole: cheap to import, every public name real and documented, the README true."""

import ast
import importlib
import inspect
import math
import os
import pkgutil
import re
import subprocess
import sys
import warnings
from importlib import metadata, resources
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import captum_softcam
from captum_softcam.attr import METHODS
from captum_softcam.data import Sample
from captum_softcam.evaluation import CONTROLS, LayerExplainFunc, compare_methods
from captum_softcam.metrics import METRICS
from captum_softcam.softcam import EMBEDDED, convert_to_softcam

README = Path(__file__).parents[1] / "README.md"
PACKAGES = [
    "captum_softcam",
    *(m.name for m in pkgutil.walk_packages(captum_softcam.__path__, "captum_softcam.") if m.ispkg and "._" not in m.name),
]
PUBLIC = [(package, name) for package in PACKAGES for name in importlib.import_module(package).__all__]


def python(code, folder):
    """Run code in a fresh process, in ``folder``."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )


TRAINING = ["SoftCamTask", "TrainingResult", "train_classifier"]


@pytest.mark.parametrize("name", TRAINING)
def test_training_loads_lightning_when_it_is_asked_for(tmp_path, name):
    code = f"""
import sys
from captum_softcam import softcam
assert "{name}" in dir(softcam)
assert "lightning" not in sys.modules
softcam.{name}
assert "lightning" in sys.modules
"""
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", TRAINING)
def test_training_without_lightning_says_what_to_install(tmp_path, name):
    code = f"import sys; sys.modules['lightning'] = None; from captum_softcam.softcam import {name}"
    done = python(code, tmp_path)
    assert done.returncode == 1
    sentence = f"ImportError: {name} needs lightning; run: pip install 'captum-softcam[train]'."
    assert done.stderr.splitlines()[-1] == sentence


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match=r"No captum_softcam\.softcam attribute SoftCam"):
        _ = importlib.import_module("captum_softcam.softcam").SoftCam


def test_import_says_nothing(tmp_path):
    done = python("import warnings; warnings.simplefilter('error', UserWarning); import captum_softcam", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_all_packages_are_looked_at():
    assert {name.rpartition(".")[2] for name in PACKAGES} >= {"attr", "data", "evaluation", "metrics", "report", "softcam"}


@pytest.mark.parametrize(("package", "name"), [entry for entry in PUBLIC if not entry[1].startswith("__")])
def test_public_names_exist_and_are_documented(package, name):
    thing = getattr(importlib.import_module(package), name)
    if inspect.isclass(thing) or inspect.isfunction(thing) or inspect.ismodule(thing):
        text = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
        assert text, f"{name} has no docstring"
        assert not text.startswith(f"{name}("), "that is the docstring that dataclass makes up"
    else:
        assert name in documented_constants(), f"no string stands below {name} = …"


def documented_constants():
    """Names that are assigned in some module of the package and followed by a string."""
    found = set()
    for path in Path(captum_softcam.__path__[0]).rglob("*.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for statement, below in pairwise(body):
            if isinstance(statement, (ast.Assign, ast.AnnAssign)) and isinstance(below, ast.Expr):
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                found |= {ast.unparse(target) for target in targets if isinstance(below.value, ast.Constant)}
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_sorted(package):
    module = importlib.import_module(package)
    assert module.__doc__
    names = list(module.__all__)
    assert len(set(names)) == len(names)
    assert names in (sorted(names), sorted(names, key=lambda name: (not name.isupper(), name)))


def test_version_is_the_installed_one():
    assert captum_softcam.__version__ == metadata.version("captum-softcam")


def test_citation_and_changelog_have_the_version():
    root, version = README.parent, re.escape(captum_softcam.__version__)
    assert re.search(rf"^version: {version}$", (root / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    sections = re.findall(r"^## \[(.+?)\]", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sections[:2] == ["Unreleased", captum_softcam.__version__]


@pytest.mark.parametrize("file", ["py.typed", *(f"softcam/weights/{name}.safetensors" for name in EMBEDDED)])
def test_files_of_the_package(file):
    assert resources.files("captum_softcam").joinpath(file).is_file()


def test_console_script():
    (script,) = metadata.entry_points(group="console_scripts", name="captum-softcam")
    assert script.load() is importlib.import_module("captum_softcam.cli").main


def samples():
    """Two small samples, one with a mask."""
    noise = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.interpolate(noise, size=(32, 40), mode="bilinear")  # with parts, not of pixels alone
    mask = torch.zeros(1, 32, 40, dtype=torch.bool)
    mask[:, 8:20, 10:30] = True
    return [Sample(images[0], 1, mask, "a"), Sample(images[1], 2, None, "b")]


@pytest.mark.parametrize("name", [*METHODS, *CONTROLS])
def test_every_method_is_usable(name, net):
    images = torch.stack([sample.image for sample in samples()])
    maps = LayerExplainFunc(name, layer=None if name == "soft_cam" else "backbone").explain(
        convert_to_softcam(net.float()), images, torch.tensor([1, 2])
    )
    assert maps.shape == (2, 1, 32, 40)
    assert maps.isfinite().all()
    assert maps.std() > 0


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_usable(name, net):
    comparison = compare_methods(net.float(), samples(), ["random", "centred_gaussian"], [name])
    assert comparison.metrics == [name]
    scores = comparison.scores.set_index(["sample", "method"])["score"]
    assert math.isfinite(scores["a"]["random"])  # a map that mirrors itself has no symmetry to lose
    assert scores["b"].isna().all() == METRICS[name].needs_mask


def quick_start():
    """The first block of Python in the README."""
    found = re.search(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found, "README.md has no block of Python"
    return found[1]


def test_quick_start_is_short():
    code = quick_start()
    assert len(code.strip().splitlines()) <= 12
    assert max(map(len, code.splitlines())) <= 125


def test_quick_start_runs_as_pasted_offline_and_ends_in_a_picture(tmp_path):
    offline = "import socket\ndef refuse(*_, **__): raise OSError('offline')\nsocket.socket.connect = refuse\n"
    offline += "socket.getaddrinfo = refuse\n"
    done = python(f"{offline}exec(compile({quick_start()!r}, 'README.md', 'exec'), {{'__name__': '__main__'}})", tmp_path)
    assert done.returncode == 0, done.stderr
    (picture,) = tmp_path.glob("*.png")
    assert picture.stat().st_size > 10_000


def test_every_block_of_python_in_the_readme_compiles():
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert blocks
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for block in blocks:
            compile(block, "README.md", "exec")
