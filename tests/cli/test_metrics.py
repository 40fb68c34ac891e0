"""``captum-softcam metrics``: all metrics and verdicts, legible on any terminal."""

import csv
import re
import subprocess
import sys
from io import StringIO

import pytest
from command import run
from rich.console import Console

from captum_softcam.metrics import METRICS, VERDICTS
from captum_softcam.report import print_metrics


def printed(width, **console):
    """Both tables as a terminal of that width shows them."""
    text = StringIO()
    print_metrics(Console(file=text, width=width, force_terminal=True, color_system=None, **console))
    return text.getvalue()


@pytest.fixture(scope="module")
def rows():
    """What goes into a spreadsheet."""
    done = run("metrics", "--format", "csv")
    assert (done.code, done.err) == (0, "")
    return {row["metric"]: row for row in csv.DictReader(StringIO(done.out))}


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_one_row_of_csv(name, rows):
    metric, row = METRICS[name], rows[name]
    for key in ("title", "category", "reads", "origin"):
        assert row[key] == getattr(metric, key) != ""
    assert (row["higher_is_better"], row["default"]) == (str(int(metric.higher_is_better)), str(int(metric.default)))
    counts = [(metric.forwards, "forward"), (metric.attributions, "map")]
    assert row["cost"] == (", ".join(f"{n} {unit}{'s' * (n > 1)}" for n, unit in counts if n) or "none")
    assert row["settings"] == ", ".join(f"{key}={value}" for key, value in metric.settings.items())
    assert metric.source.startswith(row["source"].lower().replace(" ", ""))


def test_everything_is_in_markdown():
    done = run("metrics", "--format", "markdown")
    lines = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in done.out.splitlines()]
    rows = {line[0].rstrip("*\\"): line for line in lines if line}
    assert rows.keys() >= {*METRICS, *VERDICTS}
    assert rows["deletion"][:5] == [r"deletion\*", "faithfulness", "↓", "probability", "16 forwards"]
    for verdict in VERDICTS.values():
        found = [re.sub(r"\\(.)", r"\1", cell) for cell in rows[verdict.name]]
        assert found == [verdict.name, verdict.verdict, verdict.instead or "", " ".join(verdict.text.split())]
    assert "- reads: of the model," in done.out


def test_a_pipe_has_80_columns(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    tables = run("metrics").out.split("reads: of the model")[0]
    assert max(map(len, tables.splitlines())) <= 80


@pytest.mark.parametrize("width", [60, 80, 100, 160, 200])
def test_nothing_is_cut_off_on_a_terminal(width):
    text = printed(width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    words = set(text.replace("*", "").replace(",", "").split())
    assert words >= {*METRICS, *VERDICTS}
    settings = {f"{key}={value}" for metric in METRICS.values() for key, value in metric.settings.items()}
    assert words >= {setting for setting in settings if " " not in setting}
    assert sum(" ".join(verdict.text.split()[:3]) in text for verdict in VERDICTS.values()) == len(VERDICTS)


def test_colours_tell_verdicts_apart():
    text = StringIO()
    print_metrics(Console(file=text, width=160, force_terminal=True, color_system="standard"))
    assert {f"\x1b[{colour}m" in text.getvalue() for colour in (31, 32, 33)} == {True}


def test_no_heavy_package_is_loaded():
    script = (
        "import sys; from captum_softcam.cli import main\nmain(['metrics'])\n"
        "assert not {'quantus', 'lightning', 'ray', 'torch', 'pandas', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert "pointing_game*" in done.stdout


def test_it_takes_no_arguments():
    done = run("metrics", "pointing_game")
    assert done.code == 2
    assert "unrecognized arguments: pointing_game" in done.err
