"""``captum-softcam explain``: draw the maps of pictures over them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_softcam._names import LINE, shown
from captum_softcam.attr import METHODS
from captum_softcam.cli.data import add_reading_options, reading_of, tell
from captum_softcam.cli.model import add_model_options, load_model
from captum_softcam.cli.options import (
    STRICT,
    add_device_option,
    device_of,
    in_words,
    missing_extra_in_words,
    names,
    new_name,
    positive,
    refuse_name_of_a_file,
)

if TYPE_CHECKING:
    from captum_softcam.data import PictureFiles
    from captum_softcam.evaluation import ExplainedPicture
    from captum_softcam.softcam import Classifier

__all__ = ["add_explain"]

_DEMO = "lesions_softcam"

# The controls are spelt out, because their module imports torch.
_METHODS = (
    f"one or more of {', '.join(METHODS)}, and the controls centred_gaussian, random, edge_map; or all, but the controls "
    f"(default: the fast ones that suit the model, {', '.join(n for n, m in METHODS.items() if m.default and m.fast)})"
)


def add_explain(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "explain",
        help="draw the maps of pictures over them",
        description="Draw the maps of pictures over them. For each picture, a new folder gets an overlay per method in the "
        "picture's own size, a panel of all methods, and the maps as numbers (.npz).",
    )
    parser.add_argument(
        "pictures",
        type=Path,
        nargs="+",
        metavar="IMAGE|DIR",
        help="image files, DICOM and slices of NIfTI included, and folders that are searched for them",
    )
    add_model_options(parser, _DEMO)
    parser.set_defaults(run=_explain, model=None)  # so that the demo's model is not used without a word
    parser.add_argument("--layer", metavar="NAME", help="layer of layer methods (default: that of captum-softcam layers)")
    parser.add_argument("--methods", type=names, metavar="A,B|all", help=_METHODS)
    add_reading_options(parser, masks=False)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--top-k", type=positive, metavar="N", default=1, help="explain the N classes with the highest scores"
    )
    which.add_argument(
        "--class",
        "--target",
        dest="target",
        metavar="CLASS",
        help="name or number of the class to explain (default: the predicted one of each picture)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="new folder for the results (default: a new one per run)")
    parser.add_argument(
        "--report", type=Path, metavar="HTML", help="new page for the browser with all pictures, in one file"
    )
    parser.add_argument("--sheets", action="store_true", help="write a page A4 for each picture, too, to print (PDF)")
    parser.add_argument("--strict", action="store_true", help=STRICT)
    add_device_option(parser)


def _explain(options: argparse.Namespace) -> None:
    from captum_softcam.evaluation import explain_pictures
    from captum_softcam.report import write_explanations

    options.out = options.out or new_name("explanations")
    _refuse_wrong_paths(options)  # before the model is loaded
    if options.model is None:
        options.model = _DEMO
        print(f"Without --model, pictures are explained with the model of the demo, {_DEMO}, for drawn retinal lesions.")
    classifier = load_model(options)
    classifier.model.to(device_of(options))
    pictures = _pictures(options, classifier)
    explained = explain_pictures(
        classifier,
        pictures,
        "all" if options.methods == ["all"] else options.methods,
        target=options.target,
        top_k=options.top_k,
        layer=options.layer,
        runner_up=options.sheets and len(classifier.scored_classes) > 1,  # a regression has none
        strict=options.strict,
    )
    told = _Told(len(pictures))
    with _kept_in_words(options, told), missing_extra_in_words():
        write_explanations(told.each(explained), options.out, report=options.report, sheets=options.sheets)
    print(f"Overlays, panels and maps: {shown(options.out, LINE)}/")
    if options.report is not None:
        print(f"Page: {shown(options.report, LINE)}")


@contextmanager
def _kept_in_words(options: argparse.Namespace, told: _Told) -> Iterator[None]:
    """Add to the message of a run that stops early what is kept."""
    try:
        yield
    except (KeyboardInterrupt, OSError, ValueError) as stop:
        if not told.written:
            raise
        kept = f"{told.written} of {told.total} pictures are explained in {shown(options.out)}/"
        if isinstance(stop, KeyboardInterrupt):
            raise KeyboardInterrupt(kept) from stop
        raise ValueError(f"{in_words(stop).rstrip('.')}. {kept}.") from stop


class _Told:
    """Tells what was written, and how much is left."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.written = 0

    def each(self, pictures: Iterator[ExplainedPicture]) -> Iterator[ExplainedPicture]:
        """Yield the pictures, and print a line for each when its files are written: when the next one is asked for."""
        from tqdm import tqdm

        # Shown only where it takes more than a second, and not in a file, which has the lines of the pictures.
        with tqdm(total=self.total, desc="explaining", unit="picture", delay=1, leave=False, disable=None) as bar:
            for picture in pictures:
                yield picture
                self.written += 1
                tqdm.write(str(picture))
                bar.update()


def _pictures(options: argparse.Namespace, classifier: Classifier) -> PictureFiles:
    """Find the pictures, and print what was found unless it is the one that was named."""
    from captum_softcam.data import PictureFiles

    pictures = PictureFiles(options.pictures, classifier.image_size, classifier.fit, reading_of(options))
    if len(pictures) > 1 or pictures.found.left_out:
        tell(pictures.inspect(show_progress=True), strict=options.strict)
    return pictures


def _refuse_wrong_paths(options: argparse.Namespace) -> None:
    """Raise an error if a place to write to is taken, or a picture is missing."""
    from captum_softcam.data._disk.files import existing_file
    from captum_softcam.evaluation.checkpoint import refuse_existing

    out, report = options.out, options.report
    refuse_name_of_a_file(out, "--out")
    refuse_existing(out)
    if report is not None:
        refuse_existing(report, "--report")
    if report == out:
        raise ValueError(f"--report '{shown(report)}' is the folder of the results; choose another --report.")
    for path in options.pictures:
        if not path.is_dir():
            existing_file(path, "image")
