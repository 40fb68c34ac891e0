"""An exported file says what PyTorch says, at every size, and is kept only if it does."""

from __future__ import annotations

import copy
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx  # noqa: TID253 (the ban is for the package)
import onnxruntime  # noqa: TID253 (the ban is for the package)
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

import captum_softcam
from captum_softcam.data import RetinalLesions
from captum_softcam.softcam import EvidenceHead, SoftCamModel, convert_to_softcam, load_embedded
from captum_softcam.softcam.export import export_onnx

WITHOUT_TORCH = Path(__file__).parents[2] / "docs" / "how-to" / "onnx_without_torch.py"


def _trained(model: nn.Module) -> SoftCamModel:
    """The model converted, with running statistics of a batch, so that the evidence is neither zero nor huge."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.rand(4, 3, 64, 64))
    return convert_to_softcam(model.eval())


def _small(backbone: nn.Module | None = None) -> SoftCamModel:
    return SoftCamModel(backbone or nn.Conv2d(3, 4, 3), EvidenceHead(nn.Conv2d(4, 2, 1))).eval()


class _Adaptive(nn.Module):
    """Pools to a grid, which torch.onnx translates for the size of the example alone."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(x.repeat(1, 2, 1, 1)[:, :4], (4, 4))


class _OneSize(nn.Module):
    """Adds something to every position, and thereby knows one size only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.places = nn.Parameter(torch.rand(1, 4, 16, 20))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.places


class _Branching(nn.Module):
    """Decides by the values that it reads."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.repeat(1, 2, 1, 1)[:, :4]
        return x * 2 if x.sum() > 0 else x


def _run(file: Path, images: Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(["logits", "evidence"], {"images": images.numpy()})


def _header(file: Path) -> dict[str, object]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return json.loads(session.get_modelmeta().custom_metadata_map["captum_softcam"])


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The embedded model's file."""
    classifier = load_embedded()
    example = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    told = {"classes": classifier.classes, "mean": classifier.mean, "std": classifier.std}
    return export_onnx(classifier.model, tmp_path_factory.mktemp("demo") / "demo.onnx", example, **told)


def _assert_agrees(file: Path, model: SoftCamModel, images: Tensor) -> None:
    with torch.no_grad():
        want = model.evidence_maps(images)
    logits, evidence = _run(file, images)
    assert want.flatten(2).std(dim=2).max() > 1e-2, "the test needs maps that are not flat"
    np.testing.assert_allclose(evidence, want.numpy(), atol=1e-4, rtol=0)
    np.testing.assert_allclose(logits, model(images).detach().numpy(), atol=1e-4, rtol=0)
    np.testing.assert_allclose(logits, evidence.reshape(*evidence.shape[:2], -1).mean(2), atol=1e-5, rtol=0)


class TestAgreement:
    @pytest.mark.parametrize("shape", [(1, 3, 160, 160), (3, 3, 96, 133), (2, 3, 201, 64)], ids=str)
    def test_embedded(self, demo, shape):
        images = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        _assert_agrees(demo, load_embedded().model, images)

    @pytest.mark.parametrize(
        "build",
        [
            pytest.param(lambda: ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5), id="resnet"),
            pytest.param(lambda: torchvision.models.DenseNet(8, (2, 2), 8, num_classes=5), id="densenet"),
        ],
    )
    def test_other_batch_and_size_than_the_examples(self, tmp_path, build):
        torch.manual_seed(0)
        model = _trained(build())
        file = export_onnx(model, tmp_path / "a.onnx", torch.rand(2, 3, 64, 64))
        _assert_agrees(file, model, torch.rand(3, 3, 64, 64))
        _assert_agrees(file, model, torch.rand(1, 3, 97, 80))

    @pytest.mark.parametrize(("dims", "sizes"), [(1, ["length"]), (3, ["depth", "height", "width"])])
    def test_signals_and_volumes(self, tmp_path, dims, sizes):
        torch.manual_seed(0)
        conv = {1: nn.Conv1d, 3: nn.Conv3d}[dims]
        model = SoftCamModel(conv(2, 4, 3), EvidenceHead(conv(4, 3, 1))).eval()
        file = export_onnx(model, tmp_path / "a.onnx", torch.rand(1, 2, *[6, 7, 8][:dims]))
        (entry,) = onnxruntime.InferenceSession(str(file)).get_inputs()
        assert entry.shape == ["batch", 2, *sizes]
        _assert_agrees(file, model, torch.rand(2, 2, *[9, 5, 11][:dims]))

    def test_one_size_on_request(self, tmp_path):
        torch.manual_seed(0)
        model = _small(_OneSize())
        file = export_onnx(model, tmp_path / "a.onnx", torch.rand(1, 3, 16, 20), dynamic_size=False)
        _assert_agrees(file, model, torch.rand(3, 3, 16, 20))
        assert _header(file)["dynamic_size"] is False
        (entry,) = onnxruntime.InferenceSession(str(file)).get_inputs()
        assert entry.shape == ["batch", 3, 16, 20]


class TestFile:
    def test_inputs_and_outputs(self, demo):
        session = onnxruntime.InferenceSession(str(demo))
        assert [(entry.name, entry.shape) for entry in session.get_inputs()] == [
            ("images", ["batch", 3, "height", "width"]),
        ]
        assert [entry.name for entry in session.get_outputs()] == ["logits", "evidence"]

    def test_the_header_tells_how_to_use_it(self, demo):
        classifier = load_embedded()
        assert _header(demo) == {
            "version": captum_softcam.__version__,
            "classes": list(classifier.classes),
            "mean": list(classifier.mean),
            "std": list(classifier.std),
            "input_size": [160, 160],
            "dynamic_size": True,
        }

    def test_defaults_of_the_header(self, tmp_path):
        header = _header(export_onnx(_small(), tmp_path / "a.onnx", torch.rand(1, 3, 8, 12)))
        assert (header["classes"], header["mean"], header["std"]) == (None, [0, 0, 0], [1, 1, 1])
        assert header["input_size"] == [8, 12]

    def test_it_is_one_valid_file(self, demo):
        assert [file.name for file in demo.parent.iterdir()] == ["demo.onnx"]
        onnx.checker.check_model(onnx.load(demo, load_external_data=False), full_check=True)

    def test_the_evidence_is_computed_once(self, demo):
        convolutions = [node for node in onnx.load(demo).graph.node if node.op_type == "Conv"]
        model = load_embedded().model
        assert len(convolutions) == sum(isinstance(module, nn.Conv2d) for module in model.modules())

    def test_it_tells_nothing_of_this_machine(self, demo):
        content = demo.read_bytes()
        for told in (b"stack_trace", b'.py", line', str(Path(captum_softcam.__file__).parent).encode()):
            assert told not in content


class TestManners:
    def test_the_model_is_left_as_it_was(self, tmp_path):
        model = _small()
        before = copy.deepcopy(model.state_dict())
        keys = set(vars(model.backbone))
        export_onnx(model, tmp_path / "a.onnx", torch.rand(1, 3, 8, 8))
        assert not any(module.training for module in model.modules())
        assert set(vars(model.backbone)) == keys
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(parameter.requires_grad for parameter in model.parameters())

    def test_nothing_is_printed(self, tmp_path, capfd):
        logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
        level = logger.level
        export_onnx(_small(), tmp_path / "a.onnx", torch.rand(1, 3, 8, 8))
        with pytest.raises(ValueError, match="cannot be exported"):
            export_onnx(_small(_Branching()), tmp_path / "b.onnx", torch.rand(1, 3, 8, 8))
        assert capfd.readouterr() == ("", "")
        assert logger.level == level

    def test_paths_may_be_strings(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert export_onnx(_small(), "a.onnx", torch.rand(1, 3, 8, 8)) == Path("a.onnx")


class TestRefusals:
    IMAGES = torch.rand(1, 3, 16, 20, generator=torch.Generator().manual_seed(0))

    @pytest.fixture(autouse=True)
    def nothing_remains(self, tmp_path):
        yield
        assert [file.name for file in tmp_path.iterdir() if file.name != "there.onnx"] == []

    def refused(self, error, match, model, path, images=IMAGES, **options):
        with pytest.raises(error, match=match):
            export_onnx(model, path, images, **options)

    def test_other_models(self, tmp_path, net):
        self.refused(
            TypeError, "needs a SoftCamModel; got PooledNet. Run convert_to_softcam on it first", net, tmp_path / "a.onnx"
        )

    def test_train_mode(self, tmp_path):
        self.refused(ValueError, r"is in train mode; call model\.eval\(\)", _small().train(), tmp_path / "a.onnx")

    def test_other_precisions(self, tmp_path):
        self.refused(ValueError, r"in float32; got torch\.float64", _small().double(), tmp_path / "a.onnx")

    def test_too_large(self, tmp_path):
        with torch.device("meta"):
            model = _small(nn.Linear(2**15, 2**14))
        self.refused(ValueError, r"weights take 2\.0 GiB; one ONNX file holds less than 2", model, tmp_path / "a.onnx")

    def test_no_folder(self, tmp_path):
        path = tmp_path / "no" / "a.onnx"
        self.refused(FileNotFoundError, f"folder '{re.escape(str(path.parent))}' for 'a.onnx' does not", _small(), path)

    def test_an_existing_file_is_kept(self, tmp_path):
        path = tmp_path / "there.onnx"
        path.write_text("precious")
        self.refused(FileExistsError, f"'{re.escape(str(path))}' exists; remove it", _small(), path)
        assert path.read_text() == "precious"

    @pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
    def test_missing_packages(self, tmp_path, monkeypatch, package):
        monkeypatch.setitem(sys.modules, package, None)
        match = rf"needs {package}; run: pip install 'captum-softcam\[onnx\]'\."
        self.refused(ImportError, match, _small(), tmp_path / "a.onnx")

    @pytest.mark.parametrize(
        ("images", "match"),
        [
            (torch.rand(3, 16), r"float32 batch \(N, C, H, W\).*; got \(3, 16\), torch.float32"),
            (torch.rand(0, 3, 16, 16), r"got \(0, 3, 16, 16\)"),
            (torch.rand(1, 3, 16, 16).double(), r"got \(1, 3, 16, 16\), torch.float64"),
            (torch.rand(1, 4, 16, 16), r"cannot be run on the example \(1, 4, 16, 16\): .*channels"),
        ],
        ids=["shape", "empty", "dtype", "channels"],
    )
    def test_examples(self, tmp_path, images, match):
        self.refused(ValueError, match, _small(), tmp_path / "a.onnx", images)

    def test_an_example_that_is_no_tensor(self, tmp_path):
        self.refused(TypeError, "must be a tensor of images .* got ndarray", _small(), tmp_path / "a.onnx", np.zeros(3))

    @pytest.mark.parametrize("classes", [("a",), ("a", "b", "c"), "ab"], ids=str)
    def test_classes(self, tmp_path, classes):
        self.refused(
            ValueError, "classes must be 2 names, one per logit; got ", _small(), tmp_path / "a.onnx", classes=classes
        )

    @pytest.mark.parametrize(
        "options", [{"mean": (0.5,)}, {"std": (1.0, 0.0, 1.0)}, {"mean": (0.0, 0.0, float("nan"))}], ids=str
    )
    def test_normalisation(self, tmp_path, options):
        (name,) = options
        self.refused(ValueError, f"{name} must be 3 .*numbers, one per channel", _small(), tmp_path / "a.onnx", **options)

    def test_one_size_only(self, tmp_path):
        match = r"cannot be exported for any height and width \(.*static shape of 16.*\)\. With dynamic_size=False"
        self.refused(ValueError, match, _small(_OneSize()), tmp_path / "a.onnx")

    def test_steps_that_depend_on_values(self, tmp_path):
        match = r"the model cannot be exported \(.*data-dependent.*steps do not depend on the values"
        self.refused(ValueError, match, _small(_Branching()), tmp_path / "a.onnx", dynamic_size=False)

    def test_a_file_that_differs(self, tmp_path):
        match = (
            r"for images \(2, 3, 37, 51\) differ from PyTorch's by 0\.\d+, more than the 0\.0001 allowed\. The file was not"
        )
        self.refused(ValueError, match, _small(_Adaptive()), tmp_path / "a.onnx")

    def test_a_file_that_cannot_be_run(self, tmp_path, monkeypatch):
        def fail(*_arguments):
            raise RuntimeError("no kernel")

        monkeypatch.setattr(onnxruntime.InferenceSession, "run", fail)
        self.refused(ValueError, r"cannot be run on \(1, 3, 16, 20\): no kernel", _small(), tmp_path / "a.onnx")

    def test_nan_is_no_agreement(self, tmp_path):
        model = _small()
        nn.init.constant_(model.evidence[-1].bias, float("nan"))
        self.refused(ValueError, "differ from PyTorch's by nan", model, tmp_path / "a.onnx")


class TestWithoutTorch:
    def test_the_example_of_the_documentation(self, demo, tmp_path):
        sample = next(sample for sample in RetinalLesions("test", length=20) if sample.mask is not None)
        photo, picture = tmp_path / "photo.png", tmp_path / "evidence.png"
        pixels = (sample.image * 255).round().byte()
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(photo)
        code = f"import runpy, sys; runpy.run_path({str(WITHOUT_TORCH)!r}); "
        code += "assert not {'torch', 'captum_softcam'} & set(sys.modules)"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, str(demo), str(photo), str(picture)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )
        assert (done.returncode, done.stderr) == (0, "")
        classifier = load_embedded()
        logits = classifier.model(classifier.normalize(pixels[None] / 255))[0]
        best = int(logits.argmax())
        want = f"{classifier.classes[best]}: logit {logits[best]:.3f}, probability {logits.softmax(0)[best]:.3f}\n"
        assert done.stdout == want
        shown = np.asarray(Image.open(picture)).astype(int)
        assert shown.shape == (160, 160, 3)
        red = torch.from_numpy(shown[..., 0] - shown[..., 2])
        assert red[sample.mask[0]].float().mean() > red.float().mean(), "the evidence lies where the lesion lies"
