"""Set up pytest for the tests and for the examples in docstrings, which it collects from the package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

# Before anything imports torch. Tensors in tests are small: more threads cost more than they save, and the workers of
# pytest-xdist would compete for the same cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

MOST_WORKERS = 4  # a worker takes up to 3 GB: all of torch, Quantus, Lightning and ONNX, and the largest networks


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Choose a worker per core for folders, and none for single files, which are often done before workers have started."""
    if all(Path(argument.partition("::")[0]).is_file() for argument in config.args):
        return 0
    # Not the physical cores, which xdist counts: on many virtual machines there is one for two cores that work.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_WORKERS) if cores > 1 else 0


@pytest.fixture
def doctest_namespace(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the names that an example finds, in place of pytest's fixture, which knows one set for the whole session."""
    from example_names import names_for

    monkeypatch.chdir(tmp_path)
    example = request.node.dtest
    owner = example.name.removeprefix(example.globs["__name__"]).split(".")[1]
    example.globs.clear()  # of the names of its module, which users do not have
    return names_for(owner)
