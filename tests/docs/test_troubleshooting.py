"""The page on troubleshooting names every error of the library, and notices a new one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import raised
import torch
from torchvision.models import resnet18

from captum_softcam import LayerReciproCam, convert_to_softcam
from captum_softcam.data import ImageFolderSamples
from captum_softcam.metrics import functional

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = raised.collect(ROOT / "captum_softcam")
PASSED_ON = {  # raises that say nothing of their own: the text of another error, or for the library's own ears
    "cli/compare.py": ["raise ValueError(str(error)) from error"],
    "cli/options.py": ["raise ValueError(str(error)) from error"],
    "_intervention/replay.py": ['raise _NotByExample("an output', 'raise _NotByExample("the output'],
    "_intervention/closed_form.py": ['raise _Lost("the model does more'],
}


def _package(folder: Path, code: str) -> Path:
    (folder / "module.py").write_text(code, encoding="utf-8")
    return folder


def test_every_error_is_named_once_and_no_other():
    assert raised.problems(PAGE, MESSAGES) == []


def test_every_raise_of_the_code_is_collected():
    """Counted in another way: by the lines that begin with ``raise`` and a name that is called."""
    found = {(message.module, message.line) for message in MESSAGES}
    for file in sorted((ROOT / "captum_softcam").rglob("*.py")):
        module = file.relative_to(ROOT / "captum_softcam").as_posix()
        lines = enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        lines = [(number, line.strip()) for number, line in lines if re.match(r"\s+raise [\w.()]+\(", line)]
        missing = [line for number, line in lines if (module, number) not in found]
        assert len(missing) == len(PASSED_ON.get(module, [])), missing
        assert all(any(line.startswith(start) for start in PASSED_ON[module]) for line in missing)


@pytest.mark.parametrize(
    "code",
    [
        'def f():\n    raise ValueError("a sheep stands in the way")',
        'def f(x):\n    raise ValueError(f"a sheep called {x} stands in the way")',
        'def f(x):\n    words = "a sheep" if x else "a cow"\n    raise ValueError(f"{words} stands in the way")',
        'def f():\n    raise TypeError(words())\n\ndef words():\n    return "a sheep stands in the way"',
        'import warnings\nwarnings.warn("a sheep stands in the way")',
    ],
)
def test_a_new_error_is_noticed(tmp_path, code):
    more = raised.collect(_package(tmp_path, code))
    problems = raised.problems(PAGE, [*MESSAGES, *more])
    assert len(problems) == len(more) >= 1
    assert all("is not explained" in problem and "module.py" in problem for problem in problems)
    assert "a sheep" in problems[0]


def test_a_reworded_error_is_noticed():
    without = [message for message in MESSAGES if "perturbations_per_eval" not in message.text]
    (problem,) = raised.problems(PAGE, without)
    assert "no error of the library says 'perturbations_per_eval" in problem


def test_an_error_on_two_subjects_is_noticed():
    twice = PAGE + "\n```{error-messages}\nperturbations_per_eval must\n```\n"
    (problem,) = raised.problems(twice, MESSAGES)
    assert problem.endswith("which is shown twice.")


@pytest.mark.parametrize("line", ["raise ValueError(x.words)", "raise x", "raise x.cause", "raise ValueError()"])
def test_an_error_that_cannot_be_followed_is_refused(tmp_path, line):
    with pytest.raises(ValueError, match=r"module.py:2 raises an error whose text .* cannot follow"):
        raised.collect(_package(tmp_path, f"def f(x):\n    {line}"))


@pytest.mark.parametrize(
    ("code", "texts"),
    [
        ('raise ValueError("a " + ("b" if x else "c"))', ["a b", "a c"]),
        (
            'raise ValueError(f"{type(x).__name__} has {tuple(x.shape)} and {len(x)}")',
            ["⟨type of x⟩ has ⟨shape of x⟩ and ⟨number of x⟩"],
        ),
        ('raise ValueError(f"{_g(1)}; {size:.2f} of {a.b.c}")', ["⟨g⟩; ⟨size⟩ of ⟨c of b of a⟩"]),
        ("try:\n    y\nexcept OSError as error:\n    raise ValueError(str(error)) from error", []),
        ("try:\n    y\nexcept OSError as error:\n    raise error.cause from None", []),
        ('raise _Private("a")', []),
        ("raise Signal if x else OtherSignal", []),
    ],
)
def test_what_a_text_can_be(tmp_path, code, texts):
    assert [message.text for message in raised.collect(_package(tmp_path, code))] == texts


def _call(name: str, folder: Path) -> None:
    model, images = resnet18(num_classes=3).eval(), torch.rand(1, 3, 64, 64)
    match name:
        case "layer":
            LayerReciproCam(model, model.fc).attribute(images, target=0)
        case "target":
            LayerReciproCam(model, model.layer4).attribute(images, target=3)
        case "conversion":
            convert_to_softcam(model, output_stride=7)
        case "metric":
            functional.pointing_game(images, images > 0)
        case "data":
            ImageFolderSamples(folder)


@pytest.mark.parametrize("name", ["layer", "target", "conversion", "metric", "data"])
def test_what_is_really_said_is_on_the_page(tmp_path, name):
    """Errors that are provoked: each fits one of the collected texts, with something in each bracket."""
    with pytest.raises((ValueError, AssertionError, FileNotFoundError)) as caught:
        _call(name, tmp_path)
    patterns = {re.sub(r"⟨.*?⟩", "\0", message.text): message.kind for message in MESSAGES}
    fitting = [
        (text, kind)
        for text, kind in patterns.items()
        if re.fullmatch(re.escape(text).replace("\0", ".+"), str(caught.value))
    ]
    assert fitting
    assert {kind for _, kind in fitting} == {caught.type.__name__}
