"""Names of pictures in annotations, and the files that they mean."""

import unicodedata
import warnings
from pathlib import Path

import pytest
from image_files import draw, message, warned

from captum_softcam.data._disk.named_images import NamedImages

ELSEWHERE = "images are named by paths of another place"


@pytest.fixture
def folder(tmp_path):
    for name in ("p1.png", "sub/p2.jpg", "sub/deep/p3.png", "1.2.840.png", unicodedata.normalize("NFD", "é4.png")):
        draw(tmp_path / "images" / name)
    return tmp_path / "images"


def find(folder, name, **options):
    file, label = NamedImages(folder, **options).find(name, "line 2")
    return file.relative_to(folder).as_posix(), label


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("p1.png", "p1.png"),
        ("p1", "p1.png"),
        ("./p1.png", "p1.png"),
        ("P1.PNG", "p1.png"),
        ("p1.dcm", "p1.png"),
        ("p1.jpeg", "p1.png"),
        ("sub/p2.jpg", "sub/p2.jpg"),
        ("sub\\p2.jpg", "sub/p2.jpg"),
        ("Sub/P2", "sub/p2.jpg"),
        ("p3", "sub/deep/p3.png"),
        ("p3.png", "sub/deep/p3.png"),
        ("1.2.840", "1.2.840.png"),
        ("é4.png", unicodedata.normalize("NFD", "é4.png")),
        ("images/sub/p2.jpg", "sub/p2.jpg"),
    ],
)
def test_what_a_name_means(folder, name, file):
    assert find(folder, name)[0] == file


def test_names_of_samples_hold_no_path_of_this_machine(folder):
    assert find(folder, str(folder / "sub/p2.jpg")) == ("sub/p2.jpg", "sub/p2.jpg")
    assert find(folder, str(folder / "sub/p2")) == ("sub/p2.jpg", "sub/p2")
    assert find(folder, "sub\\p2.jpg")[1] == "sub/p2.jpg"


def test_a_folder_behind_a_link(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    for name in (tmp_path / "link/p1.png", folder / "p1.png"):
        file, label = NamedImages(tmp_path / "link").find(str(name), "line 2")
        assert (file, label) == (tmp_path / "link/p1.png", "p1.png")


@pytest.mark.parametrize(
    "name", ["/home/me/data/images/sub/p2.jpg", "C:\\data\\Images\\sub\\p2.jpg", "../images/sub/p2.jpg"]
)
def test_a_path_of_another_place(folder, name):
    pictures = NamedImages(folder)
    found = warned(ELSEWHERE, lambda: pictures.find(name, "line 2"))
    assert found == (folder / "sub/p2.jpg", "sub/p2.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head = name.removesuffix("sub/p2.jpg").removesuffix("sub\\p2.jpg")
        assert pictures.find(f"{head}p1.png", "line 3").name == "p1.png"
        assert "is not in" in message(FileNotFoundError, lambda: pictures.find(f"{head}p9.png", "line 4"))


@pytest.mark.filterwarnings(f"ignore:{ELSEWHERE}")
def test_two_places_would_make_one_picture_of_two(folder):
    pictures = NamedImages(folder)
    pictures.find("/a/images/p1.png", "line 2")
    text = message(ValueError, lambda: pictures.find("/b/images/p1.png", "line 3"))
    assert text == (
        f"line 3 names the image '/b/images/p1.png' and others below '/a/images'; both cannot be the folder '{folder}': "
        "use paths relative to it."
    )


def test_a_path_without_the_name_of_the_folder_is_refused(folder):
    text = message(ValueError, lambda: NamedImages(folder, allow_outside=False).find("/home/me/scans/sub/p2.jpg", "line 2"))
    assert text == (
        "line 2 names the image '/home/me/scans/sub/p2.jpg', which is not below its folder; use a path relative to that "
        "folder, such as 'sub/p2.jpg', or allow it by allow_outside=True (--allow-outside)."
    )


def test_a_part_of_a_data_set_whose_other_part_is_named(folder):
    draw(folder.parent / "test/images/p1.png")
    draw(folder.parent / "train/images/p1.png")
    text = message(FileNotFoundError, lambda: find(folder.parent / "train/images", "test/images/p1.png"))
    assert f"which lies below '{folder.parent}', not below" in text
    assert find(folder.parent / "train/images", "train/images/p1.png") == ("p1.png", "train/images/p1.png")


@pytest.mark.parametrize(("more", "name"), [("p1.jpg", "p1"), ("P1.jpg", "P1.png"), ("other/p3.png", "p3")])
def test_two_candidates(folder, more, name):
    draw(folder / more)
    assert "which could be" in message(ValueError, lambda: find(folder, name))


def test_letters_tell_pictures_apart(folder):
    draw(folder / "P1.jpg")
    assert find(folder, "P1")[0] == "P1.jpg"
    assert find(folder, "p1")[0] == "p1.png"


def test_outside_on_request(folder, tmp_path):
    draw(tmp_path / "secret.png")
    for name in ("../secret.png", "../secret", str(tmp_path / "secret.png")):
        file, label = NamedImages(folder, allow_outside=True).find(name, "line 2")
        assert (file.resolve(), label) == (tmp_path / "secret.png", name)


def test_one_picture_is_one_file_whatever_its_name(folder, monkeypatch):
    """Files are compared by their paths, to unite the rows of one picture."""
    monkeypatch.chdir(folder.parent)
    pictures = NamedImages(Path("images"))
    names = ("sub/p2.jpg", "sub\\p2.jpg", "p2", "images/sub/p2.jpg", str(folder / "sub/p2.jpg"))
    assert {pictures.find(name, "line 2").file for name in names} == {Path("images/sub/p2.jpg")}
