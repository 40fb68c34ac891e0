"""Whole trainings of a tiny network: what they leave behind, and that being cut off changes nothing."""

import csv
import errno
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from captum_softcam import _files
from captum_softcam._files import owned
from captum_softcam.softcam import (
    ElasticNetEvidenceLoss,
    EvidenceHead,
    SoftCamModel,
    SoftCamTask,
    checkpoints,
    train_classifier,
)

EPOCHS = 3
TRAIN, VALIDATION, BATCH = 18, 7, 4  # 5 steps per epoch, the last with 2 examples


class Noisy:
    """Images that look different at every visit, by all three generators; a signal can be sent while one is read."""

    def __init__(self, count, noise=0.1):
        generator = torch.Generator().manual_seed(count)
        self.images = torch.rand(count, 3, 6, 6, generator=generator, dtype=torch.float64)
        self.noise = noise
        self.visits = 0
        self.stop = None

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.visits += 1
        if self.stop is not None and self.visits == self.stop[1]:
            os.kill(os.getpid(), self.stop[0])
        shift = self.noise * (torch.rand(()).item() + np.random.rand() + random.random())
        return self.images[index] + shift, torch.tensor(index % 3)


def make_task(**options):
    """A network in which everything that could remember does: normalisation, dropout, momentum."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3))
    model = SoftCamModel(backbone, EvidenceHead(nn.Conv2d(6, 3, 1))).double()
    return SoftCamTask(model, ElasticNetEvidenceLoss(1e-3, 1e-3), lr=0.05, **options)


def train(folder, task=None, stop=None, **options):
    """Task and result of a training in ``folder``."""
    task, data = task or make_task(), Noisy(TRAIN)
    data.stop = stop
    settings = {"epochs": EPOCHS, "batch_size": BATCH, "accelerator": "cpu", "show_progress": False} | options
    return task, train_classifier(task, data, Noisy(VALIDATION, 0.0), folder, **settings)


def final_weights(folder):
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder, task and result of a training that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, *train(folder)


class Scripted(SoftCamTask):
    """A training whose validation has the scores and losses that a test asks for."""

    @classmethod
    def of(cls, scores, losses):
        task = cls(make_task().model, lr=0.05)
        task.script = {"val_score": scores, "val_loss": losses}
        return task

    def _log_mean(self, name, value, *arguments, **options):
        if name in self.script:
            value = value * 0 + float(self.script[name][self.current_epoch])
        super()._log_mean(name, value, *arguments, **options)


class TestOutcome:
    def test_folder(self, whole):
        folder, _, result = whole
        assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
            "checkpoints/best.ckpt",
            "checkpoints/last.ckpt",
            "checkpoints/previous.ckpt",
            "metrics.csv",
        ]
        assert result.checkpoint == folder / "checkpoints/best.ckpt"

    def test_history_is_the_table(self, whole):
        folder, _, result = whole
        with (folder / "metrics.csv").open(newline="") as file:
            rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
        assert list(result.history) == rows
        assert [row["epoch"] for row in rows] == [0, 1, 2]
        assert set(rows[0]) >= {"lr", "train_loss", "train_penalty", "val_loss", "val_accuracy", "val_auc", "val_sparsity"}

    def test_learning_rates_are_those_of_the_epochs(self, whole):
        rates = [row["lr"] for row in whole[2].history]
        assert rates == pytest.approx([0.05, 0.005 + 0.045 * 0.75, 0.005 + 0.045 * 0.25])

    def test_best_epoch(self, whole):
        folder, task, result = whole
        scores = [row["val_score"] for row in result.history]
        assert result.score == max(scores)
        assert result.epoch == min(range(EPOCHS), key=lambda k: (-scores[k], result.history[k]["val_loss"], k))
        best = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
        assert equal(best, task.state_dict())
        assert not any(module.training for module in task.modules())

    def test_best_weights_are_not_always_the_last(self, tmp_path):
        class Worse(SoftCamTask):
            """Every epoch scores worse than the one before."""

            def _log_mean(self, name, value, *arguments, **options):
                value = value * 0 - self.current_epoch if name == "val_score" else value
                super()._log_mean(name, value, *arguments, **options)

        task, result = train(tmp_path, Worse(make_task().model, lr=0.05))
        assert (result.epoch, result.score) == (0, 0)
        best = torch.load(result.checkpoint, weights_only=True)["state_dict"]
        assert equal(best, task.state_dict())
        assert not equal(final_weights(tmp_path), best)

    @pytest.mark.parametrize(("losses", "best"), [((3, 2, 1, 2, 1), 2), ((1, 2, 3), 0), ((2, 2, 2), 0)])
    def test_equal_scores_go_to_the_lowest_loss(self, tmp_path, losses, best):
        """And patience counts from that epoch."""
        task, result = train(tmp_path, Scripted.of([1.0] * len(losses), losses), epochs=len(losses), patience=2)
        assert (result.epoch, result.score) == (best, 1.0)
        assert len(result.history) == min(best + 3, len(losses))
        assert equal(torch.load(result.checkpoint, weights_only=True)["state_dict"], task.state_dict())

    def test_learns(self, tmp_path):
        task = make_task()
        data = Noisy(24, 0.0)
        data.images += torch.arange(24).reshape(-1, 1, 1, 1) % 3  # brightness tells the class
        result = train_classifier(task, data, data, tmp_path, epochs=8, accelerator="cpu", show_progress=False)
        assert result.score > 0.9
        assert result.history[-1]["train_loss"] < 0.8 * result.history[0]["train_loss"]

    def test_seed_decides(self, whole, tmp_path):
        assert equal(final_weights(whole[0]), final_weights(self.folder_of(tmp_path / "same", seed=0)))
        assert not equal(final_weights(whole[0]), final_weights(self.folder_of(tmp_path / "other", seed=1)))

    def folder_of(self, folder, **options):
        train(folder, **options)
        return folder

    @pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")  # Python's, about what torch does on Linux
    def test_number_of_workers_does_not_matter(self, whole, tmp_path):
        train(tmp_path, workers=2)
        assert equal(final_weights(whole[0]), final_weights(tmp_path))

    def test_patience(self, tmp_path):
        task = make_task(score="accuracy")
        _, result = train(tmp_path, task, epochs=20, patience=2)
        assert len(result.history) == result.epoch + 3 < 20

    def test_a_single_example_is_no_batch(self, tmp_path):
        seen = []
        task = make_task()
        task.on_train_batch_end = lambda _outputs, batch, _idx: seen.append(len(batch[0]))
        train(tmp_path, task, epochs=1, batch_size=17)
        assert seen == [17]

    def test_mixed_precision(self, tmp_path):
        """Convolutions in half precision, weights, losses and scores in single."""
        task, sets = make_task().float(), [Noisy(12, 0.0), Noisy(VALIDATION, 0.0)]
        for data in sets:
            data.images = data.images.float()
        seen = []
        task.model.evidence.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
        options = {"epochs": 2, "accelerator": "cpu", "show_progress": False, "precision": "bf16-mixed"}
        result = train_classifier(task, *sets, tmp_path, **options)
        assert set(seen) == {torch.bfloat16}
        assert all(np.isfinite(list(row.values())).all() for row in result.history)
        assert {value.dtype for value in task.model.parameters()} == {torch.float32}


class TestLeavesNothingBehind:
    def test_global_state(self, tmp_path):
        torch.manual_seed(5)
        np.random.seed(5)
        random.seed(5)
        task = make_task()
        before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        level = logging.getLogger("lightning.pytorch").level
        cudnn = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
        train(tmp_path, task, epochs=1)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
        assert not torch.are_deterministic_algorithms_enabled()
        assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == cudnn
        assert logging.getLogger("lightning.pytorch").level == level
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_says_nothing_without_progress(self, tmp_path, capfd):
        train(tmp_path, epochs=1)
        assert capfd.readouterr() == ("", "")

    def test_progress(self, tmp_path, capfd):
        train(tmp_path, epochs=1, show_progress=True)
        assert "Epoch 0: 100%" in capfd.readouterr().out


KILLED = """
import importlib.util, os, signal, sys
from pathlib import Path

found = importlib.util.spec_from_file_location("tests_of_training", sys.argv[1])
module = importlib.util.module_from_spec(found)
found.loader.exec_module(module)

def kill_at(left):
    def counted(plain):
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(*arguments, **options)
        return call

    os.fsync = counted(os.fsync)
    Path.replace = counted(Path.replace)

for folder in map(Path, sys.argv[2:]):
    kind, number = folder.name.split()
    if not os.fork():
        if kind == "visit":
            module.train(folder, stop=(signal.SIGKILL, int(number)))
        kill_at(int(number))
        module.train(folder)
        os._exit(0)
    assert os.WTERMSIG(os.wait()[1]) == signal.SIGKILL, folder
"""
KILLED_IN_CALLS = (5, 12, 13, 16, 33, 35, 38)
KILLED_AT_VISIT = 2 * TRAIN + 1


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Folder with one folder for each training that was killed; they share the process that imports torch."""
    folder = tmp_path_factory.mktemp("killed")
    names = [f"visit {KILLED_AT_VISIT}", *(f"call {number}" for number in KILLED_IN_CALLS)]
    command = [sys.executable, "-c", KILLED, __file__, *(str(folder / name) for name in names)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Copy the folder of a training that was interrupted after two epochs; each script of scores is trained once."""
    made = {}

    def copy(folder, scores=None):
        if scores not in made:
            made[scores] = tmp_path_factory.mktemp("interrupted")
            task = None if scores is None else Scripted.of(scores, [1.0] * len(scores))
            with pytest.raises(KeyboardInterrupt):
                train(made[scores], task, stop=(signal.SIGINT, 2 * TRAIN + 1))
        shutil.copytree(made[scores], folder, dirs_exist_ok=True)

    return copy


class TestResume:
    @pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
    @pytest.mark.parametrize("visit", [2, TRAIN + 7, 2 * TRAIN + 1], ids=["first epoch", "in the middle", "at a boundary"])
    def test_after_a_signal(self, whole, tmp_path, visit, name):
        with pytest.raises(KeyboardInterrupt, match="resume=True repeats the epoch it was in and goes on"):
            train(tmp_path, stop=(signal.Signals[name], visit))
        task, result = train(tmp_path, resume=True)
        assert equal(final_weights(tmp_path), final_weights(whole[0]))
        assert equal(task.state_dict(), whole[1].state_dict())
        assert result.history == whole[2].history

    @pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
    def test_after_kill_9(self, whole, killed):
        folder = killed / f"visit {KILLED_AT_VISIT}"
        assert (folder / "metrics.csv").read_text().count("\n") == 3, "a header and the two epochs that ended"
        task, result = train(folder, resume=True)
        assert equal(final_weights(folder), final_weights(whole[0]))
        assert equal(task.state_dict(), whole[1].state_dict())
        assert result.history == whole[2].history

    @pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
    @pytest.mark.parametrize("call", KILLED_IN_CALLS)
    def test_killed_while_checkpoints_are_written(self, whole, killed, call):
        """By number of the call that brings a file to the disk or renames it; what is half written goes at the next one."""
        folder = killed / f"call {call}"
        begun = any((folder / "checkpoints").glob("*.ckpt"))
        task, result = train(folder, resume=begun)
        assert equal(final_weights(folder), final_weights(whole[0]))
        assert equal(task.state_dict(), whole[1].state_dict())
        assert result.history == whole[2].history
        names = ["checkpoints", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "checkpoints/previous.ckpt", "metrics.csv"]
        assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) == names

    def test_in_a_folder_that_was_moved(self, whole, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "old", stop=(signal.SIGINT, TRAIN + 7))
        (tmp_path / "old").rename(tmp_path / "new")
        _, result = train(tmp_path / "new", resume=True)
        assert result.history == whole[2].history
        assert not (tmp_path / "old").exists()

    @pytest.mark.parametrize("options", [{}, {"epochs": 20, "patience": 1}], ids=["whole", "stopped early"])
    def test_what_is_finished_stays(self, tmp_path, options):
        _, result = train(tmp_path, **options)
        before = final_weights(tmp_path)
        _, again = train(tmp_path, resume=True, **options)
        assert again.history == result.history
        assert equal(final_weights(tmp_path), before)


class Digested(Noisy):
    """A set that can tell itself from others."""

    def digest(self):
        return self.name


def train_with_digest(folder, name, stop=None, **options):
    data = Digested(TRAIN)
    data.name, data.stop = name, stop
    settings = {"epochs": EPOCHS, "batch_size": BATCH, "accelerator": "cpu", "show_progress": False} | options
    return train_classifier(make_task(), data, Noisy(VALIDATION, 0.0), folder, **settings)


class Code:
    """A pickle that would leave a file behind if anything in it ran."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def spoil(path, damage):
    """Damage a file as disks, kills and enemies do."""
    content = path.read_bytes()
    match damage:
        case "missing":
            path.unlink()
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "empty":
            path.write_bytes(b"")
        case "flipped bit":
            place = content.index(
                torch.load(path, weights_only=True)["state_dict"]["model.backbone.0.weight"].numpy().tobytes()
            )
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        case "code":
            torch.save({"state_dict": Code(path.with_name("ran"))}, path)


class TestDamage:
    @pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "flipped bit", "code"])
    def test_the_checkpoint_before_the_last_is_taken_up(self, whole, interrupted, tmp_path, damage):
        interrupted(tmp_path)
        spoil(tmp_path / "checkpoints/last.ckpt", damage)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            task, result = train(tmp_path, resume=True)
        words = [str(warning.message) for warning in caught if "is damaged" in str(warning.message)]
        assert len(words) == (damage != "missing"), "a kill between two names leaves no last one; nothing is lost"
        assert all(
            "last.ckpt' is damaged; the training resumes from 'previous.ckpt', an epoch earlier" in word for word in words
        )
        assert equal(final_weights(tmp_path), final_weights(whole[0]))
        assert equal(task.state_dict(), whole[1].state_dict())
        assert result.history == whole[2].history
        assert not (tmp_path / "checkpoints/ran").exists(), "no code of a pickle runs"

    @pytest.mark.parametrize("damage", ["missing", "truncated", "flipped bit"])
    def test_a_best_checkpoint_that_is_the_last_is_written_again(self, interrupted, tmp_path, damage):
        """As after a kill between the two."""
        scores = (1.0, 2.0, 1.0)
        interrupted(tmp_path, scores)
        path = tmp_path / "checkpoints/best.ckpt"
        weights = torch.load(path, weights_only=True)["state_dict"]
        spoil(path, damage)
        task, result = train(tmp_path, Scripted.of(scores, [1.0] * 3), resume=True)
        assert result.epoch == 1
        assert equal(task.state_dict(), weights)

    @pytest.mark.parametrize("damage", ["missing", "truncated"])
    def test_a_best_checkpoint_of_a_finished_training(self, tmp_path, damage):
        """Written again from the last one where that has the weights."""
        task, result = train(tmp_path, Scripted.of([1.0, 2.0], [1.0] * 2), epochs=2)
        spoil(result.checkpoint, damage)
        again, _ = train(tmp_path, Scripted.of([1.0, 2.0], [1.0] * 2), epochs=2, resume=True)
        assert equal(again.state_dict(), task.state_dict())
        assert equal(torch.load(result.checkpoint, weights_only=True)["state_dict"], task.state_dict())

    @pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt", "metrics.csv"])
    @pytest.mark.parametrize("epoch", [1, 2])
    def test_a_full_disk(self, whole, tmp_path, monkeypatch, name, epoch):
        """Half of a file is written, then none: what was there is whole, nothing is left beside it, and the run goes on."""
        full_in_epoch(monkeypatch, tmp_path / name if name == "metrics.csv" else tmp_path / "checkpoints" / name, epoch)
        with pytest.raises(OSError, match=rf"{name}' cannot be written \(No space left on device\); make room there"):
            train(tmp_path)
        monkeypatch.undo()
        assert not list(tmp_path.rglob("*.part"))
        task, result = train(tmp_path, resume=True)
        assert equal(final_weights(tmp_path), final_weights(whole[0]))
        assert equal(task.state_dict(), whole[1].state_dict())
        assert result.history == whole[2].history


def full_in_epoch(monkeypatch, path, epoch):
    """Let the disk be full when a file is written for the second or third time."""
    plain, count = _files.replacing, [0]

    @contextmanager
    def replacing(target):
        count[0] += target == path
        with plain(target) as file:
            yield Full(file) if target == path and count[0] > epoch else file

    monkeypatch.setattr(checkpoints, "replacing", replacing)
    monkeypatch.setattr(_files, "replacing", replacing)


class Full:
    """A file on a disk that takes a kilobyte more."""

    def __init__(self, file):
        self.file, self.room = file, 1000 if "ckpt" in file.name else 10

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)


class TestRefused:
    """Word for word where the user sees nothing else."""

    def test_a_folder_that_is_taken(self, whole):
        with pytest.raises(FileExistsError, match="holds a training already; resume it, choose another folder"):
            train(whole[0])

    def test_nothing_to_resume(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"last\.ckpt' does not exist, so there is nothing to resume"):
            train(tmp_path, resume=True)

    def test_another_model(self, whole):
        task = SoftCamTask(SoftCamModel(nn.Conv2d(3, 6, 3), EvidenceHead(nn.Conv2d(6, 3, 1))))
        with pytest.raises(ValueError, match=r"last\.ckpt' is of another model: 'model\.backbone\.0\.bias' is \(6,\) there"):
            train(whole[0], task, resume=True)

    def test_a_broken_checkpoint(self, tmp_path):
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints/last.ckpt").write_bytes(b"half of it")
        with pytest.raises(
            ValueError, match=r"last\.ckpt' is damaged, so nothing can be resumed from it; put a copy of it back"
        ):
            train(tmp_path, resume=True)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda file: file.pop("captum_softcam"), "no training that can go on"),
            (lambda file: file.pop("optimizer_states"), "no training that can go on"),
            (lambda file: file.pop("state_dict"), "no training that can go on"),
            (lambda file: file["captum_softcam"].update(rows=[1]), "no training that can go on"),
            (lambda file: file["captum_softcam"].update(finished=None), "no training that can go on"),
            (
                lambda file: file["captum_softcam"]["recipe"].update(lr=1.0),
                r"another training: lr is 1\.0 there, and 0\.05 here",
            ),
            (lambda file: file["captum_softcam"].update(recipe={}), "another training: seed is None there, and 0 here"),
        ],
    )
    def test_a_foreign_checkpoint(self, whole, tmp_path, change, words):
        shutil.copytree(whole[0], tmp_path / "run")
        path = tmp_path / "run/checkpoints/last.ckpt"
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)
        with pytest.raises(ValueError, match=rf"last\.ckpt' is of {words}"):
            train(tmp_path / "run", resume=True)

    @pytest.mark.parametrize(
        ("options", "words"),
        [({"seed": 1}, "seed is 0 there, and 1 here"), ({"epochs": 4}, "epochs is 3 there, and 4 here")],
    )
    def test_other_arguments(self, whole, options, words):
        with pytest.raises(ValueError, match=rf"last\.ckpt' is of another training: {words}; resume with what it"):
            train(whole[0], resume=True, **options)

    def test_another_set(self, whole):
        with pytest.raises(ValueError, match="the training set is '18 examples' there, and '19 examples' here"):
            train_classifier(make_task(), Noisy(TRAIN + 1), Noisy(VALIDATION), whole[0], epochs=EPOCHS, resume=True)

    def test_another_set_of_the_same_size(self, tmp_path):
        """As a data set tells it that has a digest."""
        with pytest.raises(KeyboardInterrupt):
            train_with_digest(tmp_path, "a", stop=(signal.SIGINT, TRAIN + 7))
        with pytest.raises(
            ValueError, match="the training set is '18 examples, digest a' there, and '18 examples, digest b'"
        ):
            train_with_digest(tmp_path, "b", resume=True)
        train_with_digest(tmp_path, "a", resume=True)

    @pytest.mark.parametrize("damage", ["missing", "truncated", "code"])
    def test_a_broken_best_checkpoint(self, interrupted, tmp_path, damage):
        """Found before anything is trained, where no epoch to come would write it again."""
        interrupted(tmp_path, (2.0, 1.0, 1.0))
        path = tmp_path / "checkpoints/best.ckpt"
        spoil(path, damage)
        with pytest.raises(
            ValueError, match=r"best\.ckpt' is missing or damaged, .* the best epoch, 0; put a copy of it back"
        ):
            train(tmp_path, Scripted.of([2.0, 1.0, 1.0], [1.0] * 3), resume=True)

    def test_two_at_once(self, tmp_path):
        with owned(tmp_path), pytest.raises(BlockingIOError, match=r"is in use by process \d+"):
            train(tmp_path)

    @pytest.mark.parametrize("name", ["epochs", "batch_size", "patience"])
    def test_numbers(self, tmp_path, name):
        with pytest.raises(ValueError, match=f"{name} must be a whole number above 0; got 0"):
            train(tmp_path, **{name: 0})

    @pytest.mark.parametrize(("sizes", "which"), [((0, 3), "training"), ((3, 0), "validation")])
    def test_empty_sets(self, tmp_path, sizes, which):
        with pytest.raises(ValueError, match=f"the {which} set is empty"):
            train_classifier(make_task(), *map(Noisy, sizes), tmp_path)

    @pytest.mark.parametrize("options", [{"precision": "17-mixed"}, {"accelerator": "abacus"}, {"devices": 0}])
    def test_settings_that_lightning_refuses(self, tmp_path, options):
        with pytest.raises(ValueError, match=r"^these settings cannot be trained with: [^\n]+\.$"):
            train(tmp_path, **options)


SPREAD = """
import importlib.util, sys
from pathlib import Path
import torch

found = importlib.util.spec_from_file_location("tests_of_training", sys.argv[1])
module = importlib.util.module_from_spec(found)
found.loader.exec_module(module)
if __name__ == "__main__":
    module.train_spread(Path(sys.argv[2]), strategy="ddp", devices=2, batch_size=4)
"""


def train_spread(folder, **options):
    """A training without normalisation over the batch and without dropout, in steps of all 8 examples."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh())
    model = SoftCamModel(backbone, EvidenceHead(nn.Conv2d(6, 3, 1))).double()
    task = SoftCamTask(model, ElasticNetEvidenceLoss(1e-2, 1e-2), lr=0.1)
    settings = {"epochs": 4, "accelerator": "cpu", "show_progress": False} | options
    return task, train_classifier(task, Noisy(8), Noisy(VALIDATION, 0.0), folder, **settings)


def test_two_processes_train_like_one(tmp_path):
    """Equal but for the order of sums: each process takes half of every batch, and an uneven part of the validation set."""
    script = tmp_path / "spread.py"
    script.write_text(SPREAD)
    command = [sys.executable, str(script), __file__, str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    _, one = train_spread(tmp_path / "one", batch_size=8)
    weights = [final_weights(tmp_path / name) for name in ("one", "two")]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], rtol=0, atol=1e-12), name
    with (tmp_path / "two/metrics.csv").open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert len(rows) == len(one.history)
    for row, expected in zip(rows, one.history, strict=True):
        assert row == pytest.approx(expected, rel=1e-5), "logged values are means over both processes"


def test_folder_may_be_a_string(tmp_path):
    _, result = train(str(tmp_path / "deep" / "run"), epochs=1)
    assert isinstance(result.checkpoint, Path)
