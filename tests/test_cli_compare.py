"""``captum-softcam compare`` beyond one plain run: cut off and resumed, on a cluster, with a report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from command import run

from captum_softcam.cli import compare
from captum_softcam.evaluation import Comparison, is_complete
from captum_softcam.metrics import METRICS

FAST = ["compare", "--samples", "6", "--methods", "soft_cam,random", "--metrics", "pointing_game,region_perturbation"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare, "_ACCURACY_SAMPLES", 8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The comparison that was never cut off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("whole"))
        patch.setattr(compare, "_ACCURACY_SAMPLES", 8)
        assert run(*FAST, "--batch-size", "2", "--out", "run").code == 0
        return Comparison.load(Path("run"))


def cut_off(after: int, monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None, *options: object):
    """A run that ends after so many batches."""
    from captum_softcam.evaluation.work import Work

    done, work = [], Work.run

    def count(self: Work, *arguments: object) -> object:
        if len(done) == after:
            raise error or KeyboardInterrupt
        done.append(1)
        return work(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Work, "run", count)
        return run(*FAST, "--batch-size", "2", "--out", "run", *options)


def test_interrupted_and_resumed(whole, monkeypatch):
    stopped = cut_off(2, monkeypatch)
    assert stopped.code == 130
    assert stopped.err.endswith("interrupted; go on with: captum-softcam compare --resume --out run.\n")
    assert not is_complete(Path("run"))
    again = run(*FAST, "--out", "run")
    assert again.code == 2
    assert "go on with it by --resume" in again.err
    done = run("compare", "--resume", "--out", "run", "--batch-size", "3")
    assert done.code == 0, done.err
    pd.testing.assert_frame_equal(Comparison.load(Path("run")).scores, whole.scores, atol=1e-5)
    written = {path.name for path in Path("run").iterdir()}
    assert {"scores.csv", "costs.csv", "manifest.json", "table.txt", "panel.png"} <= written


def test_interrupted_before_anything_was_done(monkeypatch):
    assert cut_off(0, monkeypatch).err.endswith("interrupted; nothing was written.\n")
    assert not Path("run").exists()


def test_a_full_disk(monkeypatch):
    done = cut_off(1, monkeypatch, OSError(28, "No space left on device", "run/parts/x"))
    assert done.code == 2
    assert done.err.splitlines()[-1] == (
        "captum-softcam compare: No space left on device: 'run/parts/x'. What is done is kept; go on with: "
        "captum-softcam compare --resume --out run"
    )


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder():
    Path("locked").mkdir(mode=0o500)
    done = run(*FAST, "--out", "locked/run")
    assert done.code == 2
    assert "Permission denied" in done.err


def test_resumed_with_other_options(monkeypatch):
    cut_off(1, monkeypatch)
    done = run("compare", "--resume", "--out", "run", "--seed", "3")
    assert done.code == 2
    assert "--seed 3 is not what the run was started with (0); leave it out." in done.err
    assert run("compare", "--resume").err.endswith("--resume needs --out: the folder of the run that was cut off.\n")
    assert "'nowhere' holds no comparison that was cut off" in run("compare", "--resume", "--out", "nowhere").err


def test_a_killed_process_goes_on(whole):
    """``kill -9``, then the one command that the guide gives."""
    process = subprocess.Popen(
        [sys.executable, "-m", "captum_softcam", *FAST, "--batch-size", "2", "--out", "run"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    limit = time.monotonic() + 300
    while process.poll() is None and not list(Path("run").glob("parts/*.npz")) and time.monotonic() < limit:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was too quick to be killed"
    assert run("compare", "--resume", "--out", "run").code == 0
    pd.testing.assert_frame_equal(Comparison.load(Path("run")).scores, whole.scores, atol=1e-5)


def test_report():
    done = run(*FAST, "--out", "run", "--report", "deep/report.html", "--gallery", "3")
    assert done.code == 0, done.err
    assert done.out.rstrip().endswith("Report: deep/report.html")
    page = Path("deep/report.html").read_text(encoding="utf-8")
    assert "soft_cam" in page
    comparison = Comparison.load(Path("run"))
    assert len(comparison.examples) == 3
    assert all(set(example.rival_maps) == {"soft_cam", "random"} for example in comparison.examples)
    again = run("compare", "--resume", "--out", "run", "--report", "deep/report.html")
    assert "'deep/report.html' exists already and is not overwritten; choose another --report" in again.err
    assert run("compare", "--resume", "--out", "run", "--report", "second.html").code == 0, "from what is saved"
    assert Path("second.html").exists()


def test_all_metrics_and_a_baseline():
    done = run(*FAST[:-1], "all", "--samples", "2", "--baseline", "random", "--out", "run")
    assert done.code == 0, done.err
    comparison = Comparison.load(Path("run"))
    assert comparison.metrics == list(METRICS)
    assert comparison.baseline == "random"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--baseline", "occlusion"], "the baseline 'occlusion' does not take part; the methods are soft_cam, random."),
        (["--device", "cuda:99"], "--device cuda:99 cannot be used: "),
        (["--device", "gpu"], "--device gpu cannot be used: "),
        (["--address", "local"], "--address is for --engine ray; leave it out."),
        (["--workers", "-1"], "'-1' is not a whole number of 0 or more"),
        (["--report", "."], "'.' exists already and is not overwritten; choose another --report"),
    ],
)
def test_refused(options, sentence):
    done = run(*FAST, "--out", "run", *options)
    assert done.code == 2
    assert sentence in done.err
    assert not Path("run").exists()


def test_on_a_cluster(whole):
    """In a process of its own: Ray changes the process that it is started in."""
    pytest.importorskip("ray", reason="Ray is not installed")
    command = [sys.executable, "-m", "captum_softcam", *FAST, "--batch-size", "2", "--out", "run", "--engine", "ray"]
    done = subprocess.run([*command, "--workers", "1"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(Comparison.load(Path("run")).scores, whole.scores, atol=1e-5)
    assert json.loads(Path("run/manifest.json").read_text())["command"]["engine"] == "ray"
