"""Folders as they lie on the disk: what is listed, what is hidden, and what is left out with a reason."""

import os
import re
import sys

import pytest
from image_files import draw, message, write
from PIL import Image

from captum_softcam.data import ImageFolderSamples, LabelledImages, UnlabelledImages
from captum_softcam.data._disk.files import (
    DICOM_ENDINGS,
    ENDINGS,
    NIFTI_ENDINGS,
    as_text,
    image_files,
    list_images,
    without_ending,
)
from captum_softcam.data._pixels.headers import FORMATS


def touch(root, *names):
    for name in names:
        write(root / name, "")
    return root


class TestListing:
    def test_order_is_that_of_paths(self, tmp_path):
        names = ["b/1.png", "b-c/1.png", "b/a/2.png", "b.png", "a/10.png", "a/9.png", "B/1.png"]
        touch(tmp_path, *names)
        assert image_files(tmp_path) == sorted(tmp_path / name for name in names)

    def test_other_files_are_named(self, tmp_path):
        touch(tmp_path, "a/1.png", "a/2.heic", "notes.txt", "a/png", "a/3.png.part", "a/4.png.", "x/README")
        listing = list_images(tmp_path)
        assert listing.images == ["a/1.png"]
        assert listing.folders == ["a", "x"]
        assert listing.left_out == {
            "not an image format": ["a/2.heic", "a/3.png.part", "a/4.png.", "a/png", "notes.txt", "x/README"]
        }

    @pytest.mark.parametrize(
        "name",
        [
            ".png",
            "._1.png",
            ".ipynb_checkpoints/1.png",
            "__MACOSX/c/1.png",
            "@eaDir/1.png/thumb.jpg",
            "c/.git/x",
            "Thumbs.db",
        ],
    )
    def test_hidden_files_are_not_listed(self, tmp_path, name):
        touch(tmp_path, "a/1.png", name, f"a/{name}")
        assert list_images(tmp_path) == (["a/1.png"], sorted({"a", "c"} if name[0] == "c" else {"a"}), {})

    def test_the_folder_itself_may_be_hidden(self, tmp_path):
        assert list_images(touch(tmp_path / ".cache", "a.png")).images == ["a.png"]

    @pytest.mark.parametrize("ending", [*ENDINGS, ".JPEG", ".Tif"])
    def test_endings(self, tmp_path, ending):
        assert list_images(touch(tmp_path, f"a.b{ending}")).images == [f"a.b{ending}"]
        assert without_ending(f"x.1/a.b{ending}") == "x.1/a.b"
        assert without_ending("x.1/a.b") == "x.1/a.b"

    def test_every_ending_is_one_of_a_format_that_is_read(self):
        Image.init()
        known = {ending for ending, name in Image.EXTENSION.items() if name in (*FORMATS, "MPO")}  # begins with a JPEG
        assert known | {*DICOM_ENDINGS, *NIFTI_ENDINGS} == set(ENDINGS)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
class TestLinks:
    def test_folders_and_files(self, tmp_path):
        touch(tmp_path / "store", "cat/1.png", "cat/more/2.png", "3.png")
        (tmp_path / "images/dog").mkdir(parents=True)
        (tmp_path / "images/cat").symlink_to(tmp_path / "store/cat")
        (tmp_path / "images/dog/deep").symlink_to(tmp_path / "store/cat/more")
        (tmp_path / "images/dog/3.png").symlink_to(tmp_path / "store/3.png")
        listing = list_images(tmp_path / "images")
        assert listing.images == ["cat/1.png", "cat/more/2.png", "dog/3.png", "dog/deep/2.png"]
        assert (listing.folders, listing.left_out) == (["cat", "dog"], {})

    def test_masks_alike(self, tmp_path):
        for kind in ("images", "masks"):
            draw(tmp_path / "store" / kind / "cat/1.png")
            draw(tmp_path / kind / "dog/1.png")
            (tmp_path / kind / "cat").symlink_to(tmp_path / "store" / kind / "cat")
        samples = ImageFolderSamples(tmp_path / "images", tmp_path / "masks", 8)
        assert (samples.masked, samples.groups) == (2, ["cat/1.png", "dog/1.png"])

    @pytest.mark.parametrize("target", [".", "..", "a", "../outer"])
    def test_loops_end(self, tmp_path, target):
        root = touch(tmp_path / "outer/root", "a/1.png", "a/b/2.png")
        places = {".": root, "..": root.parent, "a": root / "a", "../outer": tmp_path}
        (root / "a/b/loop").symlink_to(places[target])
        listing = list_images(root)
        assert listing.images == ["a/1.png", "a/b/2.png"]
        assert listing.left_out == {"link to a folder around it": ["a/b/loop"]}

    def test_links_to_each_other(self, tmp_path):
        touch(tmp_path, "a/1.png", "b/2.png")
        (tmp_path / "a/to_b").symlink_to(tmp_path / "b")
        (tmp_path / "b/to_a").symlink_to(tmp_path / "a")
        listing = list_images(tmp_path)
        assert listing.images == ["a/1.png", "a/to_b/2.png", "b/2.png", "b/to_a/1.png"]
        assert listing.left_out == {"link to a folder around it": ["a/to_b/to_a", "b/to_a/to_b"]}

    def test_a_folder_whose_name_begins_alike_is_no_loop(self, tmp_path):
        touch(tmp_path, "root/a/1.png", "root2/2.png", "roo/3.png")
        (tmp_path / "root/a/longer").symlink_to(tmp_path / "root2")
        (tmp_path / "root/a/shorter").symlink_to(tmp_path / "roo")
        assert list_images(tmp_path / "root").images == ["a/1.png", "a/longer/2.png", "a/shorter/3.png"]

    def test_broken_links_and_pipes(self, tmp_path):
        touch(tmp_path, "1.png")
        (tmp_path / "2.png").symlink_to(tmp_path / "gone.png")
        (tmp_path / "3.png").symlink_to(tmp_path / "3.png")
        os.mkfifo(tmp_path / "4.png")
        listing = list_images(tmp_path)
        assert listing.images == ["1.png"]
        assert listing.left_out == {"broken link": ["2.png", "3.png"], "not a regular file": ["4.png"]}


@pytest.mark.usefixtures("closed")
class TestRights:
    @pytest.fixture
    def closed(self, monkeypatch):
        """Folders called "closed" may not be read, as by root alone they may."""
        scandir = os.scandir

        def refusing(path):
            if os.path.basename(path) == "closed":
                raise PermissionError(13, "Permission denied", path)
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refusing)

    def test_a_folder_below_is_left_out_with_a_warning(self, tmp_path):
        touch(tmp_path, "a/1.png", "a/closed/2.png")
        with pytest.warns(UserWarning, match=re.escape(f"'{tmp_path}/a/closed' cannot be read (Permission denied) and is")):
            listing = list_images(tmp_path)
        assert listing == (["a/1.png"], ["a"], {"folder that cannot be read": ["a/closed"]})

    def test_the_folder_itself(self, tmp_path):
        (tmp_path / "closed").mkdir()
        text = message(PermissionError, lambda: UnlabelledImages(tmp_path / "closed"))
        assert text == f"image folder '{tmp_path}/closed' cannot be read (Permission denied); change its rights."


NAMES = {
    "spaces": " a  b .png",
    "glob": "[a-c]*?{1}.png",
    "newline": "a\nb.png",
    "quotes": "a'\"`$.png",
    "long": "x" * 251 + ".png",
    "not UTF-8": os.fsdecode(b"caf\xe9.png"),
    "right to left": "\u202e1.png",
    "emoji": "\U0001f431.png",
}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse some of these names")
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
class TestNames:
    def test_all_readers(self, tmp_path, name):
        draw(tmp_path / "i" / name[:8] / name)
        draw(tmp_path / "m" / name[:8] / name)
        samples = ImageFolderSamples(tmp_path / "i", tmp_path / "m", 8)
        assert (samples[0].identifier, samples.masked) == (as_text(f"{name[:8]}/{name}"), 1)
        assert UnlabelledImages(tmp_path / "i", size=8)[0].image.shape == (3, 8, 8)
        assert LabelledImages.from_folders(tmp_path / "i").counts() == {as_text(name[:8]): 1}
        assert samples[0].identifier.encode() + samples.classes[0].encode(), "they are written to files of text"

    def test_messages_stay_on_one_line(self, tmp_path, name):
        write(tmp_path / name, "no picture")
        text = message(ValueError, lambda: UnlabelledImages(tmp_path)[0])
        assert text.isprintable()
        assert text.encode()


def test_training_sees_no_copy_of_a_picture(tmp_path):
    """Jupyter's checkpoints were in the training set and in the validation set."""
    for name in "ab":
        draw(tmp_path / name / "1.png")
        draw(tmp_path / name / ".ipynb_checkpoints/1-checkpoint.png")
    data = LabelledImages.from_folders(tmp_path)
    assert data.counts() == {"a": 1, "b": 1}
    assert (data.found.files, data.found.left_out) == (2, {})
