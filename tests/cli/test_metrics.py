"""``captum-softcam metrics``: all metrics and verdicts, legible on any terminal."""

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
def piped():
    """What goes into a pipe."""
    done = run("metrics")
    assert done.code == 0
    return done.out


def row_of(text, name):
    """The cells of the one line that begins with a name."""
    (line,) = [line for line in text.splitlines() if line.startswith("│ ") and line.split()[1].rstrip("*") == name]
    return [cell.strip() for cell in line.strip("│").split("│")]


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_one_line_in_a_pipe(name, piped):
    metric = METRICS[name]
    starred, category, arrow, reads, cost, settings, origin, source = row_of(piped, name)
    assert starred == name + "*" * metric.default
    assert (category, arrow, origin.lower()) == (metric.category, "↑" if metric.higher_is_better else "↓", metric.origin)
    assert reads == metric.reads != ""
    counts = [(metric.forwards, "forward"), (metric.attributions, "map")]
    assert cost == (", ".join(f"{n} {unit}{'s' * (n > 1)}" for n, unit in counts if n) or "none")
    assert settings == ", ".join(f"{key}={value}" for key, value in metric.settings.items())
    assert metric.source.startswith(source.lower().replace(" ", ""))


@pytest.mark.parametrize("verdict", VERDICTS.values(), ids=list(VERDICTS))
def test_a_verdict_is_one_line_in_a_pipe(verdict, piped):
    assert row_of(piped, verdict.name) == [verdict.name, verdict.verdict, verdict.instead or "", verdict.reason]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_nothing_is_cut_off_on_a_terminal(width):
    text = printed(width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    words = set(text.replace("*", "").replace(",", "").split())
    assert words >= {*METRICS, *VERDICTS}
    settings = {f"{key}={value}" for metric in METRICS.values() for key, value in metric.settings.items()}
    assert words >= {setting for setting in settings if " " not in setting}
    assert sum(" ".join(verdict.reason.split()[:3]) in text for verdict in VERDICTS.values()) == len(VERDICTS)


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
