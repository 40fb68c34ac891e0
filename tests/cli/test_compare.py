"""``captum-softcam compare`` beyond one plain run: cut off and resumed, on a cluster, with a report."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from command import run
from PIL import Image

from captum_softcam._files import owned
from captum_softcam.cli import compare, inputs
from captum_softcam.evaluation import Comparison
from captum_softcam.evaluation.checkpoint import is_complete
from captum_softcam.metrics import METRICS

FAST = ["compare", "--samples", "6", "--methods", "soft_cam,random", "--metrics", "pointing_game,region_perturbation"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inputs, "_ACCURACY_SAMPLES", 8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The comparison that was never cut off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("whole"))
        patch.setattr(inputs, "_ACCURACY_SAMPLES", 8)
        assert run(*FAST, "--batch-size", "2", "--out", "run").code == 0
        return Comparison.load(Path("run"))


def cut_off(after: int, monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None, *options: object):
    """A run that ends after so many batches."""
    from captum_softcam.evaluation.batch import BatchScorer

    done, score = [], BatchScorer.score

    def count(self: BatchScorer, *arguments: object) -> object:
        if len(done) == after:
            raise error or KeyboardInterrupt
        done.append(1)
        return score(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(BatchScorer, "score", count)
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
    assert run("compare", "--resume").err.endswith("--resume needs --out: the folder of the interrupted run.\n")
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
    assert all(set(example.runner_up_maps) == {"soft_cam", "random"} for example in comparison.examples)
    again = run("compare", "--resume", "--out", "run", "--report", "deep/report.html")
    assert "'deep/report.html' exists already and is not overwritten; choose another --report" in again.err
    assert run("compare", "--resume", "--out", "run", "--report", "second.html").code == 0, "from what is saved"
    assert Path("second.html").exists()


TINY = ["compare", "--samples", "3", "--methods", "soft_cam,random", "--metrics", "pixel_auc", "--batch-size", "1"]


def stopped(where: str, monkeypatch: pytest.MonkeyPatch, *arguments: object):
    """A run that Ctrl-C reaches in the middle of a function."""
    with monkeypatch.context() as patch:
        patch.setattr(where, Mock(side_effect=KeyboardInterrupt))
        return run(*arguments)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("captum_softcam.evaluation.runner.Checkpoint.add", "nothing was written"),
        ("captum_softcam.evaluation.Comparison.save", "go on with: captum-softcam compare --resume --out run"),
        (
            "captum_softcam.report.write_pictures",
            "the scores are complete; go on with: captum-softcam compare --resume --out run",
        ),
        (
            "captum_softcam.report.write_report",
            "the scores are complete; go on with: captum-softcam compare --resume --out run",
        ),
        (
            "captum_softcam.cli.compare._print_what_next",
            "the scores are complete; go on with: captum-softcam compare --resume --out run",
        ),
    ],
)
def test_what_ctrl_c_says_is_true_and_the_report_is_not_lost(where, said, monkeypatch):
    done = stopped(where, monkeypatch, *TINY, "--out", "run", "--report", "deep/report.html", "--gallery", "2")
    assert done.code == 130
    assert done.err.splitlines()[-1] == f"captum-softcam compare: interrupted; {said}."
    assert Path("run").exists() == (said != "nothing was written")
    if Path("run").exists():
        done = run(*said.split()[-4:])
        assert done.code == 0, done.err
        assert sorted(path.name for path in Path("run").iterdir()) == sorted(
            [
                "costs.csv",
                "examples.npz",
                "manifest.json",
                "panel.png",
                "probes.csv",
                "samples.csv",
                "scores.csv",
                "table.txt",
            ]
        )
        assert len(Comparison.load(Path("run")).examples) == 2
        assert Path("deep/report.html").exists()


def test_a_report_is_added_on_resume_and_afterwards_with_the_gallery_that_is_asked_for(monkeypatch):
    monkeypatch.setattr(compare, "_EXAMPLES", 0)
    assert stopped("captum_softcam.evaluation.Comparison.save", monkeypatch, *TINY, "--out", "run").code == 130
    done = run("compare", "--resume", "--out", "run", "--report", "one.html", "--gallery", "1")
    assert done.code == 0, done.err
    assert len(Comparison.load(Path("run")).examples) == 1
    done = run("compare", "--resume", "--out", "run", "--report", "two.html", "--gallery", "2")
    assert done.code == 0, done.err
    examples = Comparison.load(Path("run")).examples
    assert len(examples) == 2
    assert all(set(example.runner_up_maps) == {"soft_cam", "random"} for example in examples)
    assert Path("one.html").exists()
    assert Path("two.html").exists()


def test_a_report_that_is_added_to_a_complete_run_has_the_maps_of_the_runner_up():
    assert run(*TINY, "--out", "run").code == 0
    assert [bool(example.runner_up_maps) for example in Comparison.load(Path("run")).examples] == [False] * 3
    done = run("compare", "--resume", "--out", "run", "--report", "r.html", "--gallery", "2")
    assert done.code == 0, done.err
    examples = Comparison.load(Path("run")).examples
    assert [bool(example.runner_up_maps) for example in examples] == [True, True, False]
    assert _pictured("r.html") == [example.sample.identifier for example in examples[:2]]
    before = Path("run/examples.npz").read_bytes()
    assert run("compare", "--resume", "--out", "run", "--report", "s.html", "--gallery", "2").code == 0
    assert Path("run/examples.npz").read_bytes() == before, "nothing was missing"
    assert run("compare", "--resume", "--out", "run", "--report", "one.html", "--gallery", "1").code == 0
    assert len(_pictured("one.html")) == 1
    done = run("compare", "--resume", "--out", "run", "--report", "all.html", "--gallery", "50")
    assert done.code == 0, done.err
    assert len(_pictured("all.html")) == 3, "every sample of the run"


def test_sheets_are_written_and_added_on_resume():
    done = run(*TINY, "--out", "run", "--sheets", "deep/sheets", "--gallery", "2")
    assert done.code == 0, done.err
    assert done.out.rstrip().endswith("Sheets: deep/sheets")
    names = [example.sample.identifier for example in Comparison.load(Path("run")).examples]
    assert sorted(path.name for path in Path("deep/sheets").iterdir()) == [
        f"{i:03d}-{name}.pdf" for i, name in enumerate(names, start=1)
    ]
    again = run("compare", "--resume", "--out", "run", "--sheets", "deep/sheets")
    assert "'deep/sheets' exists already and is not overwritten; choose another --sheets" in again.err
    done = run("compare", "--resume", "--out", "run", "--sheets", "all.pdf", "--gallery", "3")
    assert done.code == 0, done.err
    assert Path("all.pdf").read_bytes().count(b"/MediaBox") == 3
    done = run("compare", "--resume", "--out", "run")
    assert done.code == 0, done.err
    assert "deep/sheets' exists already and is not written again; --sheets PATH writes another." in done.out


def _pictured(report: str) -> list[str]:
    """Return the names of the samples in the gallery of a report."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', Path(report).read_text(encoding="utf-8"))
    assert found
    return [sample["name"] for sample in json.loads(found[1])["gallery"]["samples"]]


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ("file/r.html", "lies below 'file', which is a file"),
        ("r" * 300, "choose a shorter name"),
        ("run", "is the folder of the"),
    ],
)
def test_a_report_that_cannot_be_written_is_found_before_the_run(report, words):
    Path("file").touch()
    done = run(*TINY, "--out", "run", "--report", report)
    assert done.code == 2
    assert words in done.err
    assert [path.name for path in Path().iterdir()] == ["file"]


def test_a_report_that_cannot_be_written_in_the_end_loses_nothing(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(
            "captum_softcam.report.write_report", Mock(side_effect=OSError(28, "'r.html' cannot be written (full)"))
        )
        done = run(*TINY, "--out", "run", "--report", "r.html")
    assert done.code == 2
    assert done.err.splitlines()[-1].endswith(
        "(full). The scores are complete; go on with: captum-softcam compare --resume --out run"
    )
    assert run("compare", "--resume", "--out", "run").code == 0
    assert Path("r.html").exists()


def test_a_report_that_appears_during_the_run_loses_nothing(monkeypatch):
    from captum_softcam.report import write_pictures

    def slowly(*arguments: object, **options: object) -> None:
        write_pictures(*arguments, **options)
        Path("r.html").touch()

    with monkeypatch.context() as patch:
        patch.setattr("captum_softcam.report.write_pictures", slowly)
        done = run(*TINY, "--out", "run", "--report", "r.html")
    assert done.code == 2
    assert done.err.splitlines()[-1] == (
        "captum-softcam compare: 'r.html' exists already and is not overwritten; choose another name or move it away. "
        "The scores are complete; go on with: captum-softcam compare --resume --out run"
    )
    Path("r.html").unlink()
    assert run("compare", "--resume", "--out", "run").code == 0
    assert Path("r.html").stat().st_size


def test_two_at_once_in_one_folder(monkeypatch):
    assert stopped("captum_softcam.evaluation.Comparison.save", monkeypatch, *TINY, "--out", "run").code == 130
    before = {path: path.read_bytes() for path in Path("run").rglob("*.*")}
    with owned(Path("run")):
        for command in (["compare", "--resume"], TINY):
            done = run(*command, "--out", "run")
            assert done.code == 2
            assert f"'run' is in use by process {os.getpid()}" in done.err.splitlines()[-1]
            assert "go on with" not in done.err
    assert {path: path.read_bytes() for path in Path("run").rglob("*.*")} == before


@pytest.fixture
def broken(tmp_path) -> tuple[Path, bytes]:
    """A picture among others whose download was cut off, and its content."""
    generator = np.random.default_rng(0)
    for name in (*(f"a/{i:02}" for i in range(6)), *(f"b/{i:02}" for i in range(7))):
        path = tmp_path / "i" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (16, 16, 3)).astype(np.uint8)).save(path)
    torch.save(torchvision.models.squeezenet1_1(num_classes=2).state_dict(), "m.pt")
    path, whole = tmp_path / "i/b/02.png", (tmp_path / "i/b/02.png").read_bytes()
    path.write_bytes(whole[:200])
    return path, whole


PICTURES = ["compare", "--images", "i", "--model", "squeezenet1_1", "--checkpoint", "m.pt", "--classes", "a,b"]
PICTURES += ["--methods", "random,edge_map", "--metrics", "sparseness", "--batch-size", "4", "--samples", "10"]


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_picture_that_is_broken_is_named_and_scored_once_it_is_repaired(broken):
    path, whole = broken
    done = run(*PICTURES, "--out", "o", "--report", "r.html")
    assert done.code == 0, done.err
    line = "1 of 10 samples could not be read: b/02.png (image "
    assert line in " ".join(done.out.split())
    assert line in done.err
    assert "After their files were repaired or removed, go on with: captum-softcam compare --resume --out o\n" in done.out
    assert line in Path("r.html").read_text(encoding="utf-8").replace("&#39;", "'")
    assert "holds an unfinished comparison; go on with it by --resume" in run(*PICTURES, "--out", "o").err
    assert run("compare", "--resume", "--out", "o").code == 0, "which changes nothing"
    assert line in Path("o/table.txt").read_text(encoding="utf-8")
    path.write_bytes(whole)
    done = run("compare", "--resume", "--out", "o")
    assert done.code == 0, done.err
    assert "could not be read" not in done.out + done.err
    assert run(*PICTURES, "--out", "clean").code == 0
    assert Path("o/scores.csv").read_bytes() == Path("clean/scores.csv").read_bytes()
    assert is_complete(Path("o"))
    for written in ("o/table.txt", "r.html"):
        assert "could not be read" not in Path(written).read_text(encoding="utf-8")


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_picture_that_is_taken_away_does_not_end_the_run(broken, tmp_path):
    path, _ = broken
    assert run(*PICTURES, "--out", "o").code == 0
    path.unlink()
    (tmp_path / "i/a/01.png").unlink()  # which was scored
    done = run("compare", "--resume", "--out", "o")
    assert done.code == 0, done.err
    assert (
        "compare: 1 of 9 samples that were scored are not there any more; their scores are left out: a/01.png." in done.err
    )
    left = [f"{label}/{i:02}.png" for i in range(7) for label in "ab"]
    there = [name for name in left if (tmp_path / "i" / name).exists()]
    assert sorted(Comparison.load(Path("o")).samples) == sorted(there)[:10]
    assert is_complete(Path("o"))


@pytest.mark.filterwarnings("default::UserWarning")
@pytest.mark.usefixtures("broken")
def test_a_picture_that_is_broken_ends_a_strict_run():
    done = run(*PICTURES, "--out", "o", "--strict")
    assert done.code == 2
    assert "b/02.png' cannot be read" in done.err


def test_all_metrics_and_a_baseline():
    done = run(*FAST[:-1], "all", "--samples", "2", "--baseline", "random", "--out", "run")
    assert done.code == 0, done.err
    comparison = Comparison.load(Path("run"))
    assert comparison.metrics == list(METRICS)
    assert comparison.baseline == "random"


def test_marks_are_adjusted_unless_told_otherwise():
    """Six samples and two comparisons: enough for a single interval, too few after the correction."""
    done = run(*FAST, "--out", "run", "--marks", "raw")
    assert done.code == 0, done.err
    assert "not corrected for the number of comparisons, 2" in " ".join(done.out.split())
    assert "not corrected" in Path("run/table.txt").read_text(encoding="utf-8")
    again = " ".join(run("compare", "--resume", "--out", "run").out.split())
    assert "not corrected" in again, "as the run was started"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--baseline", "occlusion"], "the baseline 'occlusion' does not take part; the methods are soft_cam, random."),
        (["--device", "cuda:99"], "--device cuda:99 cannot be used: "),
        (["--device", "gpu"], "--device gpu cannot be used: "),
        (["--address", "local"], "--address is for --engine ray; leave it out."),
        (["--workers", "-1"], "'-1' is not a whole number of 0 or more"),
        (["--report", "."], "'.' exists already and is not overwritten; choose another --report"),
        (["--sheets", "."], "'.' exists already and is not overwritten; choose another --sheets"),
        (["--sheets", "a.png"], "--sheets 'a.png' has the name of a file, and is a new folder"),
        (["--out", "run.svg"], "leave the ending out: --out run."),
        (["--sheets", "run"], "--sheets 'run' is the folder of the results; choose another --sheets."),
    ],
)
def test_refused(options, sentence):
    done = run(*FAST, "--out", "run", *options)
    assert done.code == 2
    assert sentence in done.err
    assert not Path("run").exists()


@pytest.mark.parametrize(("device", "gpus"), [(None, 0), ("cpu", 0), ("cuda", 1), ("cuda:0", 1)])
def test_workers_of_ray_get_a_gpu_for_every_name_of_one(device, gpus):
    options = argparse.Namespace(engine="ray", address=None, workers=0, device=device)
    assert inputs.engine_of(options).gpus == gpus


def test_on_a_cluster(whole):
    """In a process of its own: Ray changes the process that it is started in."""
    pytest.importorskip("ray", reason="Ray is not installed")
    command = [sys.executable, "-m", "captum_softcam", *FAST, "--batch-size", "2", "--out", "run", "--engine", "ray"]
    done = subprocess.run([*command, "--workers", "1"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(Comparison.load(Path("run")).scores, whole.scores, atol=1e-5)
    assert json.loads(Path("run/manifest.json").read_text())["command"]["engine"] == "ray"
