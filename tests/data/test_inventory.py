"""What is found out about a data set before a run, and how it is put into words."""

import json
import re
import time
import warnings
from unittest.mock import Mock

import pytest
from image_files import draw
from PIL import Image

from captum_softcam.data import Found, ImageEntry, Inventory, LabelledImages, MaskedImages, Reading, inventory
from captum_softcam.data._pixels.masks import MaskFiles

LEFT_OUT = {"not an image format": ["7.jfif", "8.gif", "9.dcm", "10.txt"], "mask without image": ["x.png"], "no class": []}


def save_mask(path, value, size=(12, 12)):
    image = Image.new("L", size, value)
    image.putpixel((0, 0), 0)  # one of a whole picture raises a warning
    image.save(path)
    return path


@pytest.fixture
def entry(tmp_path):
    """Makes the entry of a sample with an image, and mask files of these values."""

    def make(name, *values, target=0, file=None):
        file = draw(tmp_path / f"{name}.png") if file is None else file
        masks = tuple(save_mask(tmp_path / f"{name}_mask_{place}.png", value) for place, value in enumerate(values))
        return ImageEntry(file, target, name, MaskFiles(masks, file) if masks else None)

    return make


class TestSamples:
    def test_black_masks_are_nothing_to_localise(self, entry):
        samples = MaskedImages([entry("ill", 0, 255), entry("well", 0), entry("bare")], ["a"], 12, found=Found(5, 4))
        assert samples.masked == 2
        found = samples.inspect()
        assert (found.regions, found.black, found.masks_used) == (1, ["well"], 3)
        assert [samples.has_mask(place) for place in range(3)] == [True, False, False]
        assert samples.masked == 1 == sum(sample.mask is not None for sample in samples)
        assert str(found) == (
            "3 samples of 5 files in 1 class: a 3.\n"
            "3 of 4 masks used: 1 sample has a region, 2 nothing to localise (1 black mask: well)."
        )

    def test_what_cannot_be_read_has_its_name_and_cause(self, entry, tmp_path):
        bad = [tmp_path / f"bad{number}.png" for number in range(3)]
        for path in bad:
            path.write_text("no picture")
        entries = [entry("good", 255), *(entry(path.stem, 255, file=path) for path in bad), entry("other", 255)]
        save_mask(tmp_path / "other_mask_0.png", 255, (5, 5))
        samples = MaskedImages(entries, ["a"], 12)
        found = samples.inspect()
        assert list(found.unreadable) == ["bad0", "bad1", "bad2", "other"]
        for place, name in enumerate(found.unreadable, start=1):
            with pytest.raises(ValueError, match=r"cannot be read|same size") as caught:
                samples[place]
            assert str(caught.value) == found.unreadable[name]
        assert found.regions == 1
        lines = str(found).splitlines()
        assert lines[2].startswith(f"3 samples cannot be used: image '{bad[0]}' cannot be read (it is not an image")
        assert lines[2].endswith("repair or remove it. Likewise bad1, bad2.")
        assert lines[3].startswith("1 sample cannot be used: mask '")
        with pytest.raises(ValueError, match=r"^4 of 5 samples cannot be used: image .*bad0.png' cannot be read"):
            found.refuse_unreadable()

    def test_every_cause_has_a_name(self):
        causes = {name: f"cause {name}" for name in "abcd"}
        text = str(Inventory(Found(4), 4, 4, 4, masks_used=None, unreadable=causes))
        assert text.splitlines()[-1] == "2 more samples cannot be used for other reasons: c, d."

    def test_a_missing_file_and_one_that_is_too_large(self, tmp_path):
        entries = [ImageEntry(tmp_path / "gone.png", 0, "gone"), ImageEntry(draw(tmp_path / "big.png"), 0, "big")]
        found = MaskedImages(entries, ["a"], reading=Reading(max_pixels=100)).inspect()
        assert found.unreadable["gone"] == f"image '{tmp_path}/gone.png' is not a file."
        assert "has 144 pixels according to its header, more than 100;" in found.unreadable["big"]

    def test_notes_are_grouped(self, entry, monkeypatch):
        def shape(path, *_):
            warnings.warn("deep pictures are stretched.", UserWarning, stacklevel=1)
            if "2" not in path.name:
                warnings.warn(f"image '{path}' looks odd.", UserWarning, stacklevel=1)
            warnings.warn("not for the user", DeprecationWarning, stacklevel=1)
            return 12, 12

        monkeypatch.setattr(inventory, "image_shape", shape)
        with pytest.warns(DeprecationWarning, match="not for the user"):
            found = MaskedImages([entry(f"{number}") for number in range(5)], ["a"]).inspect()
        assert str(found).splitlines()[1:] == [
            "Note on 0, 1, 2 and 2 more: deep pictures are stretched.",
            "Note on 0, 1, 3 and 1 more: image looks odd.",
        ]
        texts = ["deep pictures are stretched.", "image 'any/where.png' looks odd."]
        assert all(re.match(pattern, text) for pattern, text in zip(found.warning_patterns(), texts, strict=True))

    def test_each_image_is_looked_at_once(self, tmp_path, monkeypatch):
        look = Mock(return_value=(12, 12))
        monkeypatch.setattr(inventory, "image_shape", look)
        file = draw(tmp_path / "a.png")
        entries = [ImageEntry(file, target, f"a/{target}", group="a") for target in range(3)]
        found = MaskedImages(entries, ["x", "y", "z"]).inspect()
        assert look.call_count == 1
        assert str(found) == "3 samples of 1 image in 3 classes: x 1, y 1, z 1."

    def test_a_mask_needs_the_upright_size(self, tmp_path):
        turned = Image.Exif()
        turned[0x0112] = 6
        Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=turned)
        mask = MaskFiles((save_mask(tmp_path / "m.png", 255, (10, 20)),), tmp_path / "a.jpg")
        entries = [ImageEntry(tmp_path / "a.jpg", 0, "a/x"), ImageEntry(tmp_path / "a.jpg", 1, "a/y", mask)]
        found = MaskedImages(entries, ["x", "y"]).inspect()
        assert (found.unreadable, found.regions) == ({}, 1)

    def test_regions_of_annotations_are_not_drawn(self, tmp_path):
        draw_region = Mock()
        entries = [ImageEntry(draw(tmp_path / "a.png"), 0, "a", draw_region), ImageEntry(draw(tmp_path / "b.png"), 0, "b")]
        found = MaskedImages(entries, ["x"]).inspect()
        draw_region.assert_not_called()
        assert str(found).splitlines()[1] == "1 sample has a region, 1 nothing to localise."

    def test_the_first_few(self, entry):
        samples = MaskedImages([entry("a"), entry("b", target=1), entry("c"), entry("d", target=1)], ["x", "y"])
        found = samples.inspect(2)
        assert str(found) == "the first 2 of 4 samples of 4 files in 2 classes: x 1, y 1."
        assert found.summary() == {"files": 4, "samples": 4, "looked_at": 2, "images": 2}


class TestLabelled:
    @pytest.fixture
    def data(self, tmp_path):
        files = [draw(tmp_path / f"{number}.png", 30, 30) for number in range(4)]
        files[1].write_bytes(files[1].read_bytes()[:-30])
        files[2].write_text("no picture")
        return LabelledImages(files, [[0], [1], [0], [1]], ["x", "y"])

    def test_headers(self, data):
        found = data.inspect()
        assert list(found.unreadable) == [str(data.files[2])]
        assert str(found).startswith("4 samples in 2 classes: x 2, y 2.\n1 sample cannot be used: image '")

    def test_whole_images(self, data):
        assert list(data.inspect(decode=True).unreadable) == [str(data.files[1]), str(data.files[2])]

    def test_ctrl_c_does_not_wait_for_the_rest(self, tmp_path, monkeypatch):
        def stop(items, **_):
            for item in items:
                yield item
                raise KeyboardInterrupt

        read = Mock(side_effect=lambda *_, **__: time.sleep(0.005))
        monkeypatch.setattr(inventory, "read_image", read)
        monkeypatch.setattr(inventory, "tqdm", stop)
        files = [tmp_path / f"{number}.png" for number in range(200)]
        with pytest.raises(KeyboardInterrupt):
            LabelledImages(files, [[0]] * 200, ["x"]).inspect(decode=True)
        assert read.call_count < 200


class TestWords:
    def test_left_out(self):
        found = Inventory(Found(9, 0, LEFT_OUT), 4, 4, 4, {"cat": 2, "dog": 2})
        assert str(found) == (
            "4 samples of 9 files in 2 classes: cat 2, dog 2.\n"
            "Not used: 7.jfif, 8.gif, 9.dcm and 1 more (not an image format); x.png (mask without image)."
        )
        assert found.summary()["left_out"] == {
            "not an image format": {"count": 4, "names": LEFT_OUT["not an image format"]},
            "mask without image": {"count": 1, "names": ["x.png"]},
        }

    def test_many_classes(self):
        classes = {f"c{number}": number % 2 for number in range(1000)}
        assert str(Inventory(Found(500), 500, 500, 500, classes)) == (
            "500 samples in 500 of 1000 classes: 'c1' 1, 'c3' 1, 'c5' 1 and 497 more."
        )

    def test_unlabelled(self):
        assert str(Inventory(Found(1), 1, 1, 1)) == "1 sample."

    def test_never_a_wall_of_text(self):
        names = [f"{'n' * 300}\n{number}" for number in range(1000)]
        unreadable = {name: f"trouble {name[-4:]} of its own." for name in names}
        found = Inventory(
            Found(9000, 10, dict.fromkeys(map(str, range(50)), names)),
            9000,
            9000,
            9000,
            dict.fromkeys(names, 1),
            black=names,
            unreadable=unreadable,
            notes=dict.fromkeys(names, names),
        )
        lines = str(found).splitlines()
        assert len(lines) <= 11
        assert len(found.warning_patterns()) == 4  # those that are not shown are said while the files are read
        assert max(map(len, lines)) < 1500
        assert len(json.dumps(found.summary())) < 10**6


def test_progress_is_shown_if_it_takes_long(entry, monkeypatch):
    bar = Mock(side_effect=lambda items, **_: items)
    monkeypatch.setattr(inventory, "tqdm", bar)
    samples = MaskedImages([entry("a", 255)], ["x"])
    for shown in (True, False):
        samples.inspect(show_progress=shown)
        assert (bar.call_args.kwargs["disable"], bar.call_args.kwargs["delay"]) == (not shown, 1)
