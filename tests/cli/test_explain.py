"""``captum-softcam explain``: what it writes of pictures of every kind, and what it says."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command import refused, run
from PIL import Image

from captum_softcam import cli
from captum_softcam._fit import Fit
from captum_softcam.attr import METHODS
from captum_softcam.data import read_image
from captum_softcam.evaluation import CONTROLS, explain_pictures
from captum_softcam.report import explanations, overlay, write_explanations
from captum_softcam.softcam import Classifier, load_embedded

CODE = """
import torch
from networks import PooledNet
from torch import nn


def of(network, **more):
    torch.manual_seed(0)
    from captum_softcam.softcam import Classifier, load_embedded
    settings = {"classes": ("cat", "dog", "eel", "fox"), "image_size": 32, **more}
    return Classifier("tiny", network(classes=len(settings["classes"])).eval(), **settings)


def net():
    return of(PooledNet)


def crop():
    from captum_softcam._fit import Fit
    return of(PooledNet, fit=Fit("crop", 0.875))


class Slow(PooledNet):
    def forward(self, x):
        x = self.stem(x)
        for _ in range(20):
            x = torch.tanh(self.block(x))
        return self.fc(x.flatten(2).amax(2))


def slow():
    return of(Slow)


class Flat(PooledNet):
    def forward(self, x):
        return self.fc(self.stem(x).mean((2, 3)) * 0)


def flat():
    return of(Flat)
"""
NET = ["--model", "pooled.py:net"]

pytestmark = pytest.mark.filterwarnings("default::UserWarning")  # which the command prints


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with code and two pictures, in which commands run."""
    monkeypatch.chdir(tmp_path)
    Path("pooled.py").write_text(CODE)
    for number, name in enumerate(("photos/a.png", "photos/b.png")):
        picture(name, seed=number)
    return tmp_path


def picture(name, height=40, width=60, seed=0, **options):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def explained(*arguments, model="pooled.py:net"):
    """The lines that a run prints; its files are in the folder ``out``, which is new."""
    shutil.rmtree("out", ignore_errors=True)
    done = run("explain", *arguments, "--model", model, "--out", "out")
    assert done.code == 0, done.err
    return done.out.splitlines()


def listing(folder="out"):
    """Return the names of the files of pictures, which all have a number."""
    return sorted(path.name for path in Path(folder).glob("[0-9]*"))


def size(path):
    with Image.open(path) as opened:
        return opened.size


class TestFiles:
    def test_of_a_folder(self):
        lines = explained("photos", "--report", "page.html")
        ends = ["-grad_cam.png", "-panel.png", "-recipro_cam.png", ".npz"]
        assert listing() == [f"{stem}{end}" for stem in ("1-a", "2-b") for end in ends]
        assert size("out/1-a-grad_cam.png") == (60, 40), "the size of the picture itself"
        assert lines[0] == "2 samples."
        assert re.fullmatch(r"a\.png: (cat|dog|eel|fox) \(0\.\d{3}\)", lines[1])
        assert lines[2].startswith("b.png: ")
        assert lines[3:] == ["Overlays, panels and maps: out/", "Page: page.html"]
        assert Path("out/explained.txt").read_text(encoding="utf-8").splitlines() == lines[1:3]

    @pytest.mark.parametrize("model", ["pooled.py:net", "pooled.py:crop"])
    def test_an_overlay_is_the_map_on_the_whole_picture(self, model):
        explained("photos/a.png", model=model)
        fit, arrays = Fit("crop", 0.875) if model.endswith("crop") else Fit(), np.load("out/1-a.npz")
        for method in ("grad_cam", "recipro_cam"):
            expected = overlay(read_image("photos/a.png"), arrays[f"layer/{method}"][0], fit=fit, size=32)
            with Image.open(f"out/1-a-{method}.png") as drawn:
                assert np.array_equal(np.asarray(drawn), expected)

    @torch.no_grad()
    def test_arrays_are_the_maps_and_all_about_them(self):
        explained("photos/a.png", "--top-k", "2", "--methods", "recipro_cam,occlusion", model="pooled.py:crop")
        arrays = dict(np.load("out/1-a.npz"))  # without pickles
        each = next(explain_pictures(_classifier("crop"), "photos/a.png", ["recipro_cam", "occlusion"], top_k=2))
        for number, example in enumerate(each.examples):
            for method, values in example.maps.items():
                assert np.array_equal(arrays[f"layer/{method}"][number], values[0])
                assert arrays[f"input/{method}"].shape == (2, 32, 32)
        assert arrays["layer/recipro_cam"].shape == (2, 16, 16)
        logits = _classifier("crop").model(Fit("crop", 0.875).image(read_image("photos/a.png"), 32)[None])
        scores, best = logits.softmax(1)[0].sort(descending=True)
        assert arrays["classes"].tolist() == best[:2].tolist()
        assert arrays["class_names"].tolist() == [("cat", "dog", "eel", "fox")[number] for number in best[:2]]
        assert np.allclose(arrays["scores"], scores[:2])
        assert arrays["methods"].tolist() == ["recipro_cam", "occlusion"]
        assert arrays["layers"].tolist() == ["relu", ""]
        assert (arrays["model"], arrays["picture"], arrays["score_kind"]) == ("tiny", "a.png", "softmax")
        assert arrays["picture_size"].tolist() == [40, 60]
        # 40 x 60 becomes 37 x 55, of which 32 x 32 are cut out, from row 2 and column 12 on
        assert arrays["box"] == pytest.approx([2.16, 13.09, 36.76, 48.0], abs=0.01)

    def test_files_of_several_classes_have_their_numbers(self):
        explained("photos/a.png", "--top-k", "4", "--methods", "grad_cam")
        assert listing() == [*(f"1-a-grad_cam-class{number}.png" for number in range(4)), "1-a-panel.png", "1-a.npz"]

    def test_names_neither_collide_nor_leave_the_folder(self):
        names = ["p/cat/1.png", "p/dog/1.png", "p/dog/1.jpg", "p/-.png", "p/\u202ea b\n<b>.png", "p/" + "ä" * 100 + ".png"]
        for name in names:
            picture(name, 8, 8)
        explained("p", "--methods", "random")
        stems = [name.removesuffix("-random.png") for name in listing() if name.endswith("-random.png")]
        assert stems == ["1-picture", "2-cat-1", "3-dog-1", "4-dog-1", f"5-{'ä' * 40}", "6-a_b_b"]
        assert len(listing()) == 3 * len(names)

    def test_numbers_sort(self):
        for number in range(11):
            picture(f"p/{number:02}.png", 8, 8)
        explained("p", "--methods", "random")
        assert [name[:5] for name in listing() if name.endswith(".npz")] == [f"{i + 1:02}-{i:02}" for i in range(11)]

    def test_files_and_folders_together(self):
        picture("a.png")
        lines = explained("a.png", "photos", "photos/../photos/a.png", "--methods", "random")
        assert [line.partition(":")[0] for line in lines[1:4]] == ["a.png", "photos/a.png", "photos/b.png"]
        lines = explained(Path("photos/a.png").resolve(), "photos/b.png", "--methods", "random")
        assert [line.partition(":")[0] for line in lines[1:3]] == ["a.png", "b.png"]

    def test_sheets(self):
        explained("photos/a.png", "--sheets", "--methods", "grad_cam", model="pooled.py:crop")
        assert listing() == ["1-a-grad_cam.png", "1-a-panel.png", "1-a-sheet.pdf", "1-a.npz"]
        assert Path("out/1-a-sheet.pdf").read_bytes().startswith(b"%PDF")

    def test_a_new_folder_by_default(self):
        assert run("explain", "photos/a.png", *NET, "--methods", "random").code == 0
        (folder,) = Path().glob("explanations-*")
        assert listing(folder) == ["1-a-panel.png", "1-a-random.png", "1-a.npz"]


class TestPictures:
    """Whatever lies on a disk: the overlay has the size at which one sees the picture."""

    @pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 500), (500, 3), (2, 1), (700, 30)])
    def test_of_any_shape(self, width, height):
        picture("a.png", height, width)
        for model in ("pooled.py:net", "pooled.py:crop"):
            explained("a.png", model=model)
            assert size("out/1-a-grad_cam.png") == (width, height)

    def test_huge(self, monkeypatch):
        drawn = []
        monkeypatch.setattr(explanations, "_MOST", 600)
        monkeypatch.setattr(
            explanations, "overlay", lambda image, *_, **more: drawn.append(image) or overlay(image, *_, **more)
        )
        explained("photos/a.png", "--methods", "grad_cam")
        assert drawn[0].shape == (3, 20, 30)
        assert size("out/1-a-grad_cam.png") == (60, 40)

    def test_turned_by_a_phone(self):
        exif = Image.Exif()
        exif[0x0112] = 6
        picture("a.jpg", 40, 60, exif=exif)
        explained("a.jpg")
        assert size("out/1-a-grad_cam.png") == (40, 60)
        assert np.load("out/1-a.npz")["picture_size"].tolist() == [60, 40]

    @pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1"])
    def test_of_any_mode(self, mode):
        with Image.open("photos/a.png") as image:
            name = f"a.{'tif' if mode == 'CMYK' else 'png'}"
            image.convert(mode).save(name, **({"transparency": 3} if mode == "P" else {}))
        explained(name)
        assert size("out/1-a-grad_cam.png") == (60, 40)

    def test_of_sixteen_bits(self):
        Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100).save("a.png")
        assert explained("a.png", "--window", "0,60000")[0].startswith("a.png: ")
        assert size("out/1-a-grad_cam.png") == (30, 20)

    def test_of_a_clinic(self):
        files = pytest.importorskip("clinic_files")
        Path("scans").mkdir()
        files.dicom(Path("scans/a.dcm"), np.arange(600, dtype=np.int16).reshape(20, 30))
        files.nifti(Path("scans/b.nii.gz"), np.arange(600, dtype=np.float32).reshape(20, 30, 1))
        files.nifti(Path("scans/c.nii.gz"), np.zeros((8, 9, 10), np.float32))
        done = run("explain", "scans", *NET, "--out", "out")
        assert done.code == 0
        assert "1 of 3 samples could not be read: c.nii.gz (image 'scans/c.nii.gz' is a volume" in done.err
        assert size("out/1-a-grad_cam.png") == (30, 20)
        assert listing()[4:] == ["2-b-grad_cam.png", "2-b-panel.png", "2-b-recipro_cam.png", "2-b.npz"]

    def test_above_the_limit(self):
        sentence = refused("explain", "photos/a.png", *NET, "--max-pixels", "100")
        assert "2400 pixels" in sentence.replace("2,400", "2400")
        assert "--max-pixels" in sentence


class TestWhatIsLeftOut:
    def test_is_counted_and_named(self):
        shutil.copy("photos/a.png", "photos/a_mask.png")
        Path("photos/notes.txt").touch()
        lines = explained("photos", "--methods", "random")
        assert lines[:2] == [
            "2 samples of 4 files.",
            "Not used: notes.txt (not an image format); a_mask.png (mask beside its image).",
        ]

    def test_unreadable_pictures_do_not_stop_a_run(self):
        Path("photos/aa.png").write_bytes(Path("photos/a.png").read_bytes()[:900])
        done = run("explain", "photos", *NET, "--out", "out", "--methods", "random")
        assert done.code == 0
        assert "1 of 3 samples could not be read: aa.png (image 'photos/aa.png' cannot be read" in done.err
        assert [name for name in listing() if name.endswith(".npz")] == ["1-a.npz", "3-b.npz"]

    def test_but_with_strict(self):
        Path("photos/a.png").write_text("hello")
        assert "image 'photos/a.png' cannot be read" in refused("explain", "photos", *NET, "--strict")

    def test_nothing_readable(self):
        Path("photos/a.png").write_text("hello")
        Path("photos/b.png").write_text("hello")
        sentence = refused("explain", "photos", *NET)
        assert sentence.startswith("2 of 2 samples cannot be used: image 'photos/a.png' cannot be read")

    def test_one_unreadable_picture(self):
        Path("a.png").write_text("hello")
        assert refused("explain", "a.png", *NET).startswith("image 'a.png' cannot be read (")

    def test_pictures_that_are_cut_off_behind_their_headers(self):
        for name in "ab":
            Path(f"photos/{name}.png").write_bytes(Path(f"photos/{name}.png").read_bytes()[:900])
        sentence = refused("explain", "photos", *NET)
        assert sentence.startswith("none of the 2 pictures can be read; the first: image 'photos/a.png' cannot be read")

    def test_a_folder_without_pictures(self):
        Path("empty").mkdir()
        assert refused("explain", "empty", *NET).startswith("image folder 'empty' holds no image (.jpg, ")

    def test_a_missing_picture(self):
        assert refused("explain", "photos/a.png", "nowhere.png", *NET) == "image 'nowhere.png' is not a file."


class TestWhatIsExplained:
    def test_the_model_of_the_demo_is_named(self):
        done = run("explain", "photos/a.png", "--out", "out")
        assert done.out.splitlines()[0].startswith("Without --model, pictures are explained with the model of the demo")
        assert listing() == [
            f"1-a{end}" for end in ("-grad_cam.png", "-panel.png", "-recipro_cam.png", "-soft_cam.png", ".npz")
        ]
        assert "Without" not in run("explain", "photos/a.png", "--model", "lesions_softcam", "--out", "again").out

    @pytest.mark.parametrize(("option", "name"), [("--class", "eel"), ("--class", "2"), ("--target", "eel")])
    def test_a_class_by_name_or_number(self, option, name):
        line = explained("photos/a.png", option, name)[0]
        assert re.fullmatch(r"a\.png: eel \(0\.\d{3}\)(, predicted (cat|dog|fox) \(0\.\d{3}\))?", line)
        assert np.load("out/1-a.npz")["classes"].tolist() == [2]

    @pytest.mark.parametrize("name", ["4", "-1", "²", "feline", "1.0", ""])
    def test_no_such_class(self, name):
        known = "Their numbers are 0 to 3." if name in ("4", "-1") else "Known: 'cat', 'dog', 'eel', 'fox'."
        assert refused("explain", "photos/a.png", *NET, f"--class={name}") == (
            f"class '{name}' is none of the model's 4 classes. {known}"
        )

    def test_a_class_that_is_named_twice(self):
        sentence = refused("explain", "photos/a.png", *NET, "--classes", "crane,cat,crane,dog", "--class", "crane")
        assert "name of several classes" in sentence

    def test_more_classes_than_there_are(self):
        assert refused("explain", "photos/a.png", *NET, "--top-k", "5") == (
            "top_k (--top-k) is 5; expected a whole number from 1 to 4, the classes of the model."
        )

    def test_all_methods(self):
        explained("photos/a.png", "--methods", "all")
        assert set(np.load("out/1-a.npz")["methods"]) == set(METHODS) - {"soft_cam"}

    def test_a_method_that_would_take_long_is_left_out_and_named(self):
        done = run("explain", "photos/a.png", "--model", "pooled.py:slow", "--layer", "stem", "--out", "out")
        assert re.search(
            r"recipro_cam is left out, because a map costs about 2\d\d forward passes at layer 'stem'", done.err
        )
        assert np.load("out/1-a.npz")["methods"].tolist() == ["grad_cam"]
        assert "--methods recipro_cam,grad_cam." in done.err

    def test_a_flat_map_is_said_once(self):
        done = run(
            "explain", "photos", "--model", "pooled.py:flat", "--layer", "stem", "--methods", "recipro_cam", "--out", "out"
        )
        assert done.code == 0
        assert done.err.count("the map is flat by 'recipro_cam'") == 1

    def test_an_unknown_method(self):
        assert refused("explain", "photos/a.png", *NET, "--methods", "softcam").startswith(
            "method 'softcam' is unknown. Closest: 'soft_cam'"
        )

    def test_pictures_share_forwards_and_the_layer_is_chosen_once(self):
        for number in range(10):
            picture(f"p/{number}.png", 8, 8)
        classifier, batches = _classifier("net"), []
        classifier.model.register_forward_hook(lambda _module, _inputs, output: batches.append(len(output)))
        next(explain_pictures(classifier, "p/0.png"))
        one, batches[:] = len(batches), []
        assert len(list(explain_pictures(classifier, "p"))) == 10
        # The second batch of two pictures: its classes, Recipro-CAM and its copies, and Grad-CAM
        assert len(batches) == one + 3
        assert batches[-1] == 2


class TestNothingIsOverwritten:
    @pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
    def test_an_existing_place(self, make):
        make(Path("out"))
        assert refused("explain", "photos/a.png", *NET, "--out", "out") == (
            "'out' exists already and is not overwritten; choose another --out or move it away."
        )

    def test_an_existing_page(self):
        Path("page.html").write_text("mine")
        assert "choose another --report" in refused("explain", "photos/a.png", *NET, "--report", "page.html")
        assert Path("page.html").read_text() == "mine"

    def test_a_page_in_the_place_of_the_folder(self):
        assert "choose another --report" in refused("explain", "photos/a.png", *NET, "--report", "x", "--out", "x")

    def test_the_name_of_a_picture(self):
        assert refused("explain", "photos/a.png", *NET, "--out", "panel.png") == (
            "--out 'panel.png' has the name of a file, and is a new folder for all files of a run; leave the ending out: "
            "--out panel."
        )

    def test_in_python(self):
        Path("out").mkdir()
        with pytest.raises(FileExistsError, match="'out' exists already"):
            write_explanations([], "out")
        with pytest.raises(FileNotFoundError, match="the page's folder 'no' does not exist"):
            write_explanations([], "new", report="no/page.html")


class TestARunThatStops:
    @pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (OSError(28, "No space left on device"), 2)])
    def test_keeps_what_is_finished(self, monkeypatch, error, code):
        panel = explanations.plot_panel

        def stop(examples, *rest, **options):
            if examples[0].sample.identifier == "b.png":
                raise error
            return panel(examples, *rest, **options)

        monkeypatch.setattr(explanations, "plot_panel", stop)
        done = run("explain", "photos", *NET, "--out", "out", "--report", "page.html")
        assert done.code == code
        assert done.err.splitlines()[-1].endswith("1 of 2 pictures are explained in out/.")
        assert {name[:3] for name in listing()} == {"1-a"}
        assert Path("out/explained.txt").read_text(encoding="utf-8").startswith("a.png: ")
        assert not Path("page.html").exists()

    def test_before_the_first_picture(self, monkeypatch):
        def stop(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(explanations, "plot_panel", stop)
        done = run("explain", "photos", *NET, "--out", "out")
        assert (done.code, done.err.splitlines()[-1]) == (130, "captum-softcam explain: interrupted; nothing was written.")
        assert not Path("out").exists()


class TestPage:
    def test_is_one_file_that_loads_nothing(self):
        explained("photos", "--report", "page.html", "--top-k", "2")
        text = Path("page.html").read_text(encoding="utf-8")
        assert "default-src 'none'; img-src data:; style-src 'sha256-" in text
        assert "<script" not in text
        assert re.findall(r'(?:src|href)="(?!data:)', text) == []
        assert text.count("<figure>") == 2 * (1 + 2 * 2)
        assert "Recipro-CAM" in text
        assert "Grad-CAM" in text

    def test_in_the_folder_of_the_results(self):
        explained("photos/a.png", "--report", "out/page.html", "--methods", "random")
        assert "Lines: 50% and 80% of it, dashed against." in Path("out/page.html").read_text(encoding="utf-8")

    def test_names_are_text(self):
        picture("photos/<img src=x onerror=alert(1)>.png", 8, 8)
        explained("photos", "--report", "page.html", "--methods", "random")
        assert "<img src=x" not in Path("page.html").read_text(encoding="utf-8")


def test_the_guide_is_true():
    """Commands and code of the page, in their order, with one picture and the embedded model."""
    page = (Path(__file__).parents[2] / "docs/how-to/explain.md").read_text(encoding="utf-8")
    shutil.rmtree("photos")
    picture("photos/a.png")
    load_embedded().save("net.safetensors")
    names: dict = {}
    for kind, text in re.findall(r"^```(console|python)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        if kind == "python":
            exec(text, names)
            continue
        for command in text.splitlines():
            assert run(*shlex.split(command)[2:]).code == 0, command
    assert listing("explained") == [
        f"1-a{end}" for end in ("-grad_cam.png", "-panel.png", "-recipro_cam.png", "-soft_cam.png", ".npz")
    ]
    assert names["heat"].shape == (160, 160)
    assert names["whole"].shape == (40, 60)
    assert np.load("of_one_class/1-a.npz")["class_names"].tolist() == ["haemorrhages"]
    assert len([name for name in listing("of_two_classes") if "-grad_cam-class" in name]) == 2
    assert "1-a-sheet.pdf" in listing("with_sheets")
    tables = re.findall(r"^\| (.*?) \|", page, re.MULTILINE)[1:]
    described = {name.replace("METHOD", "grad_cam") for row in tables for name in re.findall(r"`(.*?)`", row)}
    assert described | {"score_kind"} == {
        name for name in names["maps"].files if "/" not in name or name.endswith("grad_cam")
    }


def test_help_names_every_method():
    text = " ".join(run("explain", "--help").out.split())
    assert [name for name in (*METHODS, *CONTROLS) if name not in text] == []
    assert "the fast ones that suit the model, soft_cam, recipro_cam, grad_cam" in text


def test_several_pictures_and_all_methods_are_parsed():
    options = cli.make_parser().parse_args(["explain", "a.png", "b", "--methods", "all"])
    assert (options.pictures, options.methods, options.top_k) == ([Path("a.png"), Path("b")], ["all"], 1)


def _classifier(name) -> Classifier:
    scope: dict = {}
    exec(CODE, scope)
    return scope[name]()


class TestInANotebook:
    def test_a_picture_is_shown_by_name_classes_and_maps_without_its_pixels(self):
        each = next(explain_pictures(_classifier("crop"), "photos/a.png", ["recipro_cam", "grad_cam"], top_k=2))
        assert repr(each) == f"ExplainedPicture('a.png', {each.words}; maps: recipro_cam, grad_cam)"
        assert each._repr_html_() == "".join(example._repr_html_() for example in each.examples)

    @pytest.mark.parametrize("kind", [np.asarray, lambda picture: [np.asarray(picture)], lambda picture: picture])
    def test_pictures_in_memory_are_refused_in_words(self, kind):
        message = "are image files and folders; got [a-zA-Z]+. For one in memory, attribute classifier.prepare"
        with Image.open("photos/a.png") as image, pytest.raises(TypeError, match=message):
            explain_pictures(_classifier("crop"), kind(image))
