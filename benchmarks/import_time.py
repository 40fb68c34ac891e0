"""Measure what it costs to import the package and to start its command, each in fresh processes.

User time of the process is compared, because other work on the machine slows the wall clock but hardly that. Imports are
given as ratios to ``import torch, captum.attr``, commands in seconds. Every candidate runs once per round, in random order,
and the medians are shown.

    python benchmarks/import_time.py --out import_time.md
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from shared import publish, table

IMPORTS = {
    "import torch, captum.attr": "import torch, captum.attr",
    "import captum_softcam": "import captum_softcam",
    "… after torch and captum.attr": "import torch, captum.attr, captum_softcam",
    "from captum_softcam import LayerReciproCam": "from captum_softcam import LayerReciproCam",
    "from captum_softcam import convert_to_softcam": "from captum_softcam import convert_to_softcam",
    "from captum_softcam.evaluation import compare_methods": "from captum_softcam.evaluation import compare_methods",
}
COMMANDS = {
    "python -c pass": "pass",
    **{
        f"captum-softcam {words}": f"from captum_softcam.cli import main; main({words.split()!r})"
        for words in ("--help", "compare --help", "train --help", "metrics")
    },
}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    parser.add_argument("--rounds", type=int, default=5, help="processes per candidate (default: %(default)s)")
    options = parser.parse_args()
    times = measure({**IMPORTS, **COMMANDS}, options.rounds)
    base = times["import torch, captum.attr"]
    ratios = [(f"`{name}`", f"{times[name]:.2f}", f"{times[name] / base:.2f}") for name in IMPORTS]
    starts = [(f"`{name}`", f"{times[name]:.2f}") for name in COMMANDS]
    parts = [table(("Import", "User seconds", "Ratio"), ratios), "", table(("Command", "User seconds"), starts)]
    publish(parts, options.out)


def measure(candidates: dict[str, str], rounds: int) -> dict[str, float]:
    """Return the median user time of each candidate in seconds."""
    for code in candidates.values():
        user_time(code)  # compiles files and fills the caches of the system
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, code in random.sample(list(candidates.items()), len(candidates)):
            times[name].append(user_time(code))
    return {name: statistics.median(values) for name, values in times.items()}


def user_time(code: str) -> float:
    """Run code in a fresh process and return the user time that it takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


if __name__ == "__main__":
    main()
