"""Labelled images to train on: what is read, how it is split and weighted, and the sentence for everything wrong."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from captum_softcam.data import LabelledImages, balanced_class_weights, make_transforms, split_samples
from captum_softcam.data.labelled import names_splits


def draw(path, shade=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((12, 16, 3), shade, np.uint8)).save(path)
    return path


@pytest.fixture
def folders(tmp_path):
    for shade, name in enumerate(("dog/b.png", "dog/a.png", "cat/z.jpg", "cat/deep/y.png", "cat/x.png")):
        draw(tmp_path / "images" / name, 40 * shade)
    (tmp_path / "images/cat/notes.txt").write_text("nothing to see")
    return tmp_path / "images"


@pytest.fixture
def table(tmp_path):
    """Writes a table beside five images."""
    for number in range(5):
        draw(tmp_path / "pictures" / f"{number}.png", 50 * number)

    def write(*lines, header="path,label"):
        path = tmp_path / "table.csv"
        path.write_text("\n".join((header, *lines)) + "\n", encoding="utf-8")
        return path

    return write


def message(error, call, *arguments, **options):
    with pytest.raises(error) as caught:
        call(*arguments, **options)
    return str(caught.value)


class TestFolders:
    def test_items(self, folders):
        data = LabelledImages.from_folders(folders)
        assert data.classes == ("cat", "dog")
        names = [file.relative_to(folders).as_posix() for file in data.files]
        assert names == ["cat/deep/y.png", "cat/x.png", "cat/z.jpg", "dog/a.png", "dog/b.png"]
        assert data.targets.tolist() == [0, 0, 0, 1, 1]
        image, target = data[3]
        assert (image.shape, image.dtype) == ((3, 12, 16), torch.float32)
        assert torch.allclose(image, torch.full_like(image, 40 / 255))
        assert (target.item(), target.dtype) == (1, torch.int64)

    def test_classes_in_the_order_of_the_logits(self, folders):
        data = LabelledImages.from_folders(folders, ["dog", "eel", "cat"])
        assert data.targets.tolist() == [2, 2, 2, 0, 0]
        assert data.counts() == {"dog": 2, "eel": 0, "cat": 3}

    def test_binary(self, folders):
        data = LabelledImages.from_folders(folders, kind="binary")
        assert data.targets.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]
        assert data.targets.dtype == torch.float32

    def test_transform(self, folders):
        data = LabelledImages.from_folders(folders).with_transform(lambda image: image[:, :2, :2] * 0)
        assert data[0][0].tolist() == torch.zeros(3, 2, 2).tolist()

    def test_errors(self, folders, tmp_path):
        assert message(FileNotFoundError, LabelledImages.from_folders, tmp_path / "no").endswith("is not a directory.")
        sentence = message(ValueError, LabelledImages.from_folders, folders, ["cat", "cow"])
        assert sentence.startswith(f"folder '{folders}/dog' is none of the 2 classes; name the folders after")
        assert "need a CSV file" in message(ValueError, LabelledImages.from_folders, folders, kind="multilabel")
        (tmp_path / "empty/cat").mkdir(parents=True)
        assert "holds an image" in message(FileNotFoundError, LabelledImages.from_folders, tmp_path / "empty")
        draw(folders / "eel/1.png")
        assert message(ValueError, LabelledImages.from_folders, folders, kind="binary") == (
            "binary needs two classes; got 3: cat, dog, eel."
        )

    def test_corrupt_image_is_named(self, folders):
        (folders / "cat/x.png").write_bytes(b"no picture")
        data = LabelledImages.from_folders(folders)
        assert re.fullmatch(
            rf"image '{folders}/cat/x\.png' cannot be read \(.*\); .*\.", message(ValueError, data.__getitem__, 1)
        )


class TestTable:
    def test_items(self, table):
        path = table("pictures/1.png,dog", "pictures/0.png, cat")
        data = LabelledImages.from_csv(path)
        assert data.classes == ("cat", "dog")
        assert data.targets.tolist() == [1, 0]
        assert torch.allclose(data[0][0], torch.full((3, 12, 16), 50 / 255))

    def test_multilabel(self, table):
        path = table("pictures/0.png,b|a", "pictures/1.png,", "pictures/2.png,c | b")
        data = LabelledImages.from_csv(path, kind="multilabel")
        assert data.classes == ("a", "b", "c")
        assert data.targets.tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 1]]
        assert data[2][1].tolist() == [0, 1, 1]

    def test_binary(self, table):
        path = table("pictures/0.png,1", "pictures/1.png,0")
        data = LabelledImages.from_csv(path, kind="binary")
        assert (data.classes, data.targets.tolist()) == (("0", "1"), [1.0, 0.0])

    def test_split(self, table):
        rows = ("pictures/0.png,a,train", "pictures/1.png,b,val", "pictures/2.png,b,train", "pictures/3.png,a,test")
        path = table(*rows, header="path,label,split")
        assert names_splits(path)
        assert [file.name for file in LabelledImages.from_csv(path, "train").files] == ["0.png", "2.png"]
        val = LabelledImages.from_csv(path, "val")
        assert (val.classes, val.targets.tolist()) == (("a", "b"), [1]), "classes are those of the whole table"

    def test_a_mark_at_the_start_of_the_file(self, table):
        path = table("pictures/0.png,a")
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as a spreadsheet writes it
        assert LabelledImages.from_csv(path).classes == ("a",)

    @pytest.mark.parametrize(
        ("header", "lines", "options", "words"),
        [
            ("path,label", [], {}, "has no rows; expected one per image below the header."),
            ("", [], {}, "has the columns none; expected path, label, and optionally split."),
            ("file,label", ["a,b"], {}, "has the columns file, label; expected path, label, and optionally split."),
            (
                "path,label,age",
                ["a,b,3"],
                {},
                "has the columns path, label, age; expected path, label, and optionally split.",
            ),
            ("path,label", ["pictures/0.png"], {}, "does not have the 2 columns of the header."),
            ("path,label", ["pictures/0.png,a,b"], {}, "does not have the 2 columns of the header."),
            ("path,label", ["pictures/0.png,a"], {"split": "val"}, "has no column split; without it all rows are one set."),
            (
                "path,label,split",
                ["pictures/0.png,a,dev"],
                {"split": "val"},
                "has the split 'dev'; expected train, val, test.",
            ),
            ("path,label,split", ["pictures/0.png,a,test"], {"split": "val"}, "has no rows of the split 'val'."),
            (
                "path,label",
                ["pictures/0.png,dgo"],
                {"classes": ["cat", "dog"]},
                "has the unknown class 'dgo'. Closest: 'dog'.",
            ),
            ("path,label", ["pictures/0.png,"], {}, "has 0 labels; multiclass needs one, multilabel accepts any number."),
            ("path,label", ["pictures/0.png,a|b"], {}, "has 2 labels; multiclass needs one, multilabel accepts any number."),
            (
                "path,label",
                ["pictures/0.png,a"],
                {"kind": "multi"},
                "kind 'multi' is unknown. Closest: 'multiclass', 'multilabel'.",
            ),
        ],
    )
    def test_errors(self, table, header, lines, options, words):
        path = table(*lines, header=header)
        sentence = message(ValueError, LabelledImages.from_csv, path, **options)
        assert sentence.endswith(words)
        assert "\n" not in sentence

    def test_missing_image_is_named_with_its_line(self, table, tmp_path):
        path = table("pictures/0.png,a", "pictures/9.png,a")
        words = f"line 3 of '{path}' names the image 'pictures/9.png', which is not in '{tmp_path}', with any ending."
        with pytest.warns(UserWarning, match=re.escape(words)):
            data = LabelledImages.from_csv(path)
        assert (data.counts(), data.found.left_out) == ({"a": 1}, {"no such image": ["pictures/9.png"]})
        words = words.replace("line 3", "line 2")
        assert message(FileNotFoundError, LabelledImages.from_csv, table("pictures/9.png,a")) == words

    @pytest.mark.parametrize("header", ["path,label", "path;label", "path\tlabel", ",path,label", " path , label ,"])
    def test_tables_of_other_programs(self, table, header):
        between = next(sign for sign in ";\t," if sign in header)
        rows = (("pictures/0.png", "1.0"), ("pictures\\1.png", "0"), ("2", "1"))
        index = header.startswith(",")
        path = table(*(between.join(["7"] * index + [*row]) for row in rows), header=header)
        data = LabelledImages.from_csv(path)
        assert (data.classes, data.labels) == (("0", "1"), ((1,), (0,), (1,)))
        assert [file.name for file in data.files] == ["0.png", "1.png", "2.png"]

    def test_missing_table(self, tmp_path):
        assert message(FileNotFoundError, LabelledImages.from_csv, tmp_path / "t.csv").endswith("is not a file.")

    def test_not_text(self, table):
        path = table("pictures/0.png,a")
        path.write_bytes(b"path,label\n\xff\xfe,a\n")
        assert "cannot be read as CSV in UTF-8" in message(ValueError, LabelledImages.from_csv, path)


def labelled(*labels, classes=("a", "b", "c"), kind="multiclass"):
    """A set that knows labels only."""
    files = [f"{number}.png" for number in range(len(labels))]
    return LabelledImages(files, [entry if isinstance(entry, tuple) else (entry,) for entry in labels], classes, kind)


class TestSplit:
    def test_every_class_gets_its_share(self):
        train, validation = split_samples(labelled(*[0] * 50, *[1] * 10, *[2] * 5), 0.2)
        assert validation.counts() == {"a": 10, "b": 2, "c": 1}
        assert train.counts() == {"a": 40, "b": 8, "c": 4}

    def test_nothing_is_lost_or_doubled(self):
        data = labelled(*[0, 1, 2] * 7)
        train, validation = split_samples(data, 0.3)
        assert sorted((*train.files, *validation.files)) == sorted(data.files)
        assert list(train.files) == [file for file in data.files if file in set(train.files)], "in the order of the data"

    def test_seed(self):
        data = labelled(*[0] * 40)
        splits = [split_samples(data, 0.5, seed)[1].files for seed in (0, 0, 1)]
        assert splits[0] == splits[1]
        assert splits[0] != splits[2]

    def test_label_sets_are_kept_together(self):
        data = labelled(*[(0, 1)] * 10, *[()] * 10, kind="multilabel")
        _, validation = split_samples(data, 0.2)
        assert sorted(validation.labels) == [(), (), (0, 1), (0, 1)]

    def test_an_only_image_is_trained_on(self):
        train, validation = split_samples(labelled(0, 0, 0, 1), 0.5)
        assert train.counts()["b"] == 1
        assert validation.counts() == {"a": 2, "b": 0, "c": 0}

    def test_errors(self):
        assert message(ValueError, split_samples, labelled(0, 1)).startswith("no class has two images")
        for fraction in (0, 1, -1):
            assert f"between 0 and 1; got {fraction}" in message(ValueError, split_samples, labelled(0, 0), fraction)

    def test_class_without_training_images_is_named(self):
        labelled(0, 1, 2).refuse_missing_classes()
        sentence = message(ValueError, labelled(0, 0, 2).refuse_missing_classes)
        assert sentence == "class 'b' has no training images; add some, or remove the class."


class TestWeights:
    def test_class_numbers_by_hand(self):
        weights = balanced_class_weights(torch.tensor([0, 0, 0, 1, 1, 2]))
        assert weights.tolist() == pytest.approx([6 / 9, 6 / 6, 6 / 3])

    def test_mean_weight_of_an_example_is_one(self):
        targets = torch.randint(0, 5, (100,), generator=torch.Generator().manual_seed(0))
        assert balanced_class_weights(targets)[targets].mean().item() == pytest.approx(1)

    def test_labels_by_hand(self):
        targets = torch.tensor([[1.0, 0], [1, 0], [1, 1], [0, 0]])
        assert balanced_class_weights(targets).tolist() == pytest.approx([1 / 3, 3])
        assert balanced_class_weights(targets[:, 0]).tolist() == pytest.approx([1 / 3])

    @pytest.mark.parametrize(
        ("targets", "options"),
        [
            (torch.tensor([0, 2]), {}),
            (torch.tensor([0, 1]), {"num_classes": 3}),
            (torch.tensor([[1.0, 1], [1, 0]]), {}),
            (torch.zeros(3), {}),
        ],
    )
    def test_a_class_that_cannot_be_balanced(self, targets, options):
        with pytest.raises(ValueError, match=r"class \d cannot be balanced: it has no examples, or no others\."):
            balanced_class_weights(targets, **options)


class TestTransforms:
    def test_plain_is_the_whole_image_normalised(self):
        image = torch.zeros(3, 8, 12)
        image[:, :, 6:] = 1
        out = make_transforms(4, (0.5,) * 3, (0.25,) * 3)[1](image)
        assert out.shape == (3, 4, 4)
        assert out[0, 0].tolist() == pytest.approx([-2, -2, 2, 2], abs=0.8)
        assert torch.equal(out, -out.flip(2))

    def test_augmented_is_another_image_each_time_but_no_other_picture(self):
        image = torch.rand(3, 1, 1).expand(3, 40, 40)
        augmented, plain = make_transforms(32)
        outs = torch.stack([augmented(image) for _ in range(20)])
        assert outs.shape == (20, 3, 32, 32)
        assert outs.std(0).max() > 1e-3
        assert (outs - plain(image)).abs().max() < 0.6

    @pytest.mark.parametrize("vertical", [False, True])
    def test_upside_down_only_where_asked_for(self, vertical):
        image = torch.linspace(0, 1, 40)[:, None].expand(3, 40, 40)  # dark above
        torch.manual_seed(0)
        outs = [make_transforms(16, vertical_flips=vertical)[0](image) for _ in range(20)]
        flipped = sum(bool(out[:, 0].mean() > out[:, -1].mean()) for out in outs)
        assert 4 <= flipped <= 16 if vertical else flipped == 0
