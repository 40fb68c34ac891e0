"""Imports: no circles, and heavy packages only where they are used."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import captum_softcam

ROOT = Path(captum_softcam.__path__[0])


def module_name(path: Path, root: Path) -> str:
    """The dotted name of a file; a stub has that of its module."""
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(node: ast.stmt, package: str) -> list[str]:
    """What a statement may import: modules, or names in them."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = [package.rsplit(".", node.level - 1)[0]] if node.level else []
    module = ".".join([*base, *([node.module] if node.module else [])])
    return [f"{module}.{alias.name}" for alias in node.names]


def import_graph(root: Path) -> dict[str, set[str]]:
    """The modules that each module of a package imports, at any depth: in functions, for types, and in stubs."""
    files = [*root.rglob("*.py"), *root.rglob("*.pyi")]
    modules = {module_name(path, root) for path in files}
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for path in files:
        name = module_name(path, root)
        package = name if path.stem == "__init__" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for found in imported(node, package):
                target = found if found in modules else found.rpartition(".")[0]
                graph[name] |= {target} & modules
    return graph


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of a circle, or an empty list."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_imports_go_in_a_circle():
    """As the contract in pyproject.toml, which does not see the stubs of lazy packages."""
    graph = import_graph(ROOT)
    assert len(graph) > 90
    assert "captum_softcam._intervention.call" in graph["captum_softcam.attr.recipro_cam"]
    assert "captum_softcam.attr.recipro_cam" in graph["captum_softcam"], "stubs count"
    assert circle(graph) == []


@pytest.mark.parametrize(
    "text",
    [
        "from package import b",
        "import package.b",
        "from package.b import name",
        "def f():\n    from package.b import name",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from package.b import name",
        "from . import b",
        "from .b import name",
    ],
)
def test_a_circle_is_noticed(tmp_path, text):
    root = tmp_path / "package"
    root.mkdir()
    (root / "__init__.py").touch()
    (root / "a.py").write_text(text)
    (root / "b.py").write_text("from package import a")
    assert set(circle(import_graph(root))) == {"package.a", "package.b"}


# What a plain `import torch, captum.attr` loads is not counted: NumPy, Matplotlib, Pillow and tqdm.
HEAVY = {
    *("captum", "lightning", "matplotlib", "nibabel", "numpy", "onnx", "onnxruntime", "onnxscript", "pandas"),
    *("PIL", "pydicom"),
    *(
        "quantus",
        "ray",
        "rich",
        "safetensors",
        "scipy",
        "skimage",
        "sklearn",
        "timm",
        "torch",
        "torchmetrics",
        "torchvision",
    ),
    "transformers",
}

SCRIPT = """
import json, os, sys

def load(kind, code):
    # in a child, which inherits what is loaded already: a fresh process for each would import torch each time
    sys.stdout.flush()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        error = None
        try:
            sys.stdout = sys.stderr = open(os.devnull, "w")
            exec(code, {})
        except BaseException as caught:
            error = repr(caught)
        found = sorted({name.partition(".")[0] for name in sys.modules})
        with open(write, "w") as pipe:
            json.dump([error, found], pipe)
        os._exit(0)
    os.close(write)
    with open(read) as pipe:
        results[kind] = json.load(pipe)
    os.waitpid(child, 0)

results = {}
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """What each start loads, all in one fresh process: the heavy packages, or the error."""
    if not hasattr(os, "fork"):
        pytest.skip("the system cannot fork")
    folder = tmp_path_factory.mktemp("imports")
    noise = np.random.default_rng(0)
    for name in ("a/1", "a/2", "b/1", "b/2"):
        path = folder / f"images/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    script = [SCRIPT]
    for kind, code in STARTS.items():
        script.append(f"load({kind!r}, {code!r})")
    script.append("import torch, captum.attr")
    for kind, code in AFTER_TORCH.items():
        script.append(f"load({kind!r}, {code!r})")
    script.append("print(json.dumps(results))")
    done = subprocess.run([sys.executable, "-c", "\n".join(script)], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def command(arguments: str) -> str:
    return f"from captum_softcam.cli import main; main({arguments.split()!r})"


COMMANDS = ("compare", "convert", "explain", "layers", "metrics", "train")
STARTS = {
    "import captum_softcam": "import captum_softcam",
    "--help": command("--help"),
    **{f"{name} --help": command(f"{name} --help") for name in COMMANDS},
    "metrics": command("metrics"),
}
BASE = {"captum", "matplotlib", "numpy", "PIL", "torch"}
LIGHTNINGS_OWN = {"rich", "scipy", "transformers"}  # which it and torchmetrics load where they are installed
TINY = "--methods soft_cam --metrics pointing_game --samples 2 --out compared"
AFTER_TORCH = {
    "import torch, captum.attr": "pass",
    "LayerReciproCam": "from captum_softcam import LayerReciproCam, LayerScoreCam, LayerSoftCam, LayerClassActivationMap",
    "layers": command("layers"),
    "convert": command("convert"),
    "explain": command("explain images/a/1.png --methods soft_cam"),
    "compare": command(f"compare {TINY}"),
    "train": command("train --images images --model shufflenet_v2_x0_5 --size 64 --epochs 1 --workers 0 --out trained"),
}
EMBEDDED = {"safetensors", "torchvision"}
MORE = {
    "import torch, captum.attr": set(),
    "LayerReciproCam": set(),
    "layers": {*EMBEDDED, "rich"},
    "convert": EMBEDDED,
    "explain": {*EMBEDDED, "pandas", "scipy"},
    "compare": {*EMBEDDED, "pandas", "rich", "scipy", "skimage"},
    "train": {*EMBEDDED, "lightning", "torchmetrics"},
}


@pytest.mark.parametrize("start", STARTS)
def test_the_start_loads_no_torch(loaded, start):
    error, names = loaded[start]
    assert error in (None, "SystemExit(0)"), error
    assert HEAVY & set(names) == ({"rich"} if start == "metrics" else set())


@pytest.mark.parametrize("start", AFTER_TORCH)
def test_heavy_packages_are_loaded_where_they_are_used(loaded, start):
    error, names = loaded[start]
    assert error is None
    own = LIGHTNINGS_OWN if "lightning" in MORE[start] else set()
    assert HEAVY & set(names) - BASE - own == MORE[start]
