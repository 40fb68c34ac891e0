"""``captum-softcam compare``: score attribution methods on the same samples."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_softcam._files import owned
from captum_softcam._names import LINE, shown
from captum_softcam.cli.data import add_data_options, add_reading_options, names_data
from captum_softcam.cli.inputs import engine_of, metrics_of, model_and_samples, print_held_out, provenance
from captum_softcam.cli.model import add_model_options, refuse_stored_code
from captum_softcam.cli.models import compare_several, names_several, restore_several
from captum_softcam.cli.options import (
    STRICT,
    add_device_option,
    add_format_option,
    add_method_options,
    count,
    device_of,
    in_words,
    messages_apart,
    missing_extra_in_words,
    names,
    new_name,
    plain_options,
    positive,
    refuse_name_of_a_file,
    restore_options,
    resume_command,
    seed,
)
from captum_softcam.metrics import BASELINES

if TYPE_CHECKING:
    from captum_softcam.data import MaskedImages, RetinalLesions
    from captum_softcam.evaluation import Comparison
    from captum_softcam.evaluation.view import Adjust

__all__ = ["add_compare"]

_EXAMPLES, _GALLERY = 4, 24
_ADJUST: dict[str, Adjust] = {"holm": "holm", "raw": "none"}
_PICTURED = ("report", "sheets")  # options that draw more examples, with their runners-up
# may change on --resume
_FREE = ("address", "batch_size", "device", "engine", "gallery", "marks", "report", "sheets", "strict", "workers")


class _Names(argparse.Action):
    """Joins names that are separated by spaces, commas or both into one list."""

    def __call__(self, _parser: object, namespace: argparse.Namespace, values: Any, _option: str | None = None) -> None:
        setattr(namespace, self.dest, [name for each in values for name in each])


def add_compare(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "compare",
        help="score attribution methods under the same metrics on the same samples",
        description="Score attribution methods under the same metrics on the same samples. Without options, the embedded "
        "SoftCAM model is explained on the embedded retinal lesions. An interrupted run goes on with: captum-softcam "
        "compare --resume --out DIR",
    )
    parser.set_defaults(run=partial(_compare, parser))
    add_model_options(parser, "lesions_softcam", several=True)
    add_method_options(parser, several=True)
    add_data_options(parser)
    add_reading_options(parser)
    parser.add_argument("--samples", type=positive, metavar="N", help="number of samples (default: 48, or all of your data)")
    parser.add_argument(
        "--metrics",
        type=names,
        metavar="A,B",
        help="names of metrics, or all; see captum-softcam metrics; any of Quantus as quantus:MaxSensitivity",
    )
    parser.add_argument("--explain", choices=("true", "predicted"), default="true", help="class to explain (default: true)")
    parser.add_argument("--baseline", metavar="METHOD", help="method that the others are compared with (default: grad_cam)")
    parser.add_argument(
        "--perturb-baseline",
        type=names,
        nargs="+",
        action=_Names,
        metavar="A,B",
        help=f"what replaces removed parts of images, one or more of {', '.join(BASELINES)}; each is a column (default: "
        "that of each metric, a blur for most)",
    )
    parser.add_argument(
        "--marks",
        choices=("holm", "raw"),
        default="holm",
        help="mark what is better or worse than the baseline with Holm's correction for the number of comparisons, or "
        "without it (default: holm)",
    )
    parser.add_argument("--seed", type=seed, metavar="N", default=0, help="seed of the random subsets (default: 0)")
    parser.add_argument(
        "--probes",
        type=count,
        metavar="N",
        default=8,
        help="samples on which the metrics themselves are probed; 0 for none (default: 8)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="new folder for the results (default: a new one per run)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, with its settings")
    parser.add_argument("--strict", action="store_true", help=STRICT)
    parser.add_argument("--report", type=Path, metavar="HTML", help="new report for the browser, in one file")
    parser.add_argument(
        "--sheets",
        type=Path,
        metavar="PATH",
        help="a page A4 per sample, to print: new folder, or new file that ends in .pdf",
    )
    parser.add_argument(
        "--gallery", type=positive, metavar="N", help=f"samples shown in the report and on sheets (default: {_GALLERY})"
    )
    add_format_option(parser)
    parser.add_argument(
        "--batch-size", type=positive, default=16, metavar="N", help="samples scored at a time (default: 16)"
    )
    parser.add_argument(
        "--passes",
        choices=("fast", "plain", "bfloat16"),
        default="fast",
        help="run forwards without gradients in a faster copy of the model that is checked against it, in the model itself, "
        "or in half precision (default: fast)",
    )
    add_device_option(parser)
    parser.add_argument(
        "--workers", type=count, default=0, metavar="N", help="processes that read images, or workers of Ray (default: 0)"
    )
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="where to run (default: local)")
    parser.add_argument(
        "--address", metavar="ADDRESS", help="address of the Ray cluster (default: a new one on this machine)"
    )


def _compare(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    from captum_softcam.evaluation.checkpoint import refuse_existing
    from captum_softcam.report import print_table

    options.named = options.model
    asked = {name: path for name in _PICTURED if (path := getattr(options, name)) is not None}
    for name, path in asked.items():  # before the run, because a refusal after hours would be too late
        refuse_existing(path, f"--{name}")
    if options.sheets is not None and options.sheets.suffix.lower() != ".pdf":  # which is one file with all sheets
        refuse_name_of_a_file(options.sheets, "--sheets")
    complete = None
    several = names_several(options)
    if options.resume:
        with messages_apart(options):
            if several:
                restore_several(parser, options, _FREE)
            else:
                complete = _restore(parser, options)
    else:
        options.out = options.out or new_name("comparison")
        refuse_name_of_a_file(options.out, "--out")
        refuse_existing(options.out)
    for name in _PICTURED:
        if getattr(options, name) == options.out:
            raise ValueError(f"--{name} '{shown(options.out)}' is the folder of the results; choose another --{name}.")
    with missing_extra_in_words(), _advice_to_resume(options, asked):
        if several:
            compare_several(parser, options, _ADJUST[options.marks], _EXAMPLES)
            return
        with messages_apart(options):
            comparison = _result(parser, options, complete)
            _write(options, comparison)
            if not names_data(options) and complete is None:
                print_held_out()
        print_table(comparison, form=options.format, adjust=_ADJUST[options.marks])
        with messages_apart(options):
            _print_what_next(options, comparison)


@contextmanager
def _advice_to_resume(options: argparse.Namespace, asked: dict[str, Path]) -> Iterator[None]:
    """Add to the message of a run that stops early what is kept and how to resume; ``asked`` is what this call draws."""
    from captum_softcam.evaluation.checkpoint import is_complete

    try:
        yield
    except (KeyboardInterrupt, OSError, ValueError) as stop:
        # Nothing of this run is there to resume: the folder belongs to another run, or was not created or kept.
        if isinstance(stop, FileExistsError | BlockingIOError) or not os.path.lexists(options.out):
            raise
        command = resume_command(options)
        if options.resume:  # the settings in the folder do not have it
            command += "".join(f" --{name} {shlex.quote(str(path))}" for name, path in asked.items())
        complete = is_complete(options.out)
        if isinstance(stop, KeyboardInterrupt):
            scores = "the scores are complete; " if complete else ""
            raise KeyboardInterrupt(f"{scores}go on with: {command}") from stop
        kept = "The scores are complete" if complete else "What is done is kept"
        raise ValueError(f"{in_words(stop).rstrip('.')}. {kept}; go on with: {command}") from stop


def _result(parser: argparse.ArgumentParser, options: argparse.Namespace, complete: Comparison | None) -> Comparison:
    """Return the comparison, after running what is missing of it; ``complete`` is the one in ``--out``, if there is one."""
    if complete is None:
        return _run(parser, options)
    if not _draws_examples(options):
        return complete
    wanted = min(options.gallery or _GALLERY, len(complete.samples))
    enough = len(complete.examples) >= wanted
    # A run without a report or sheets keeps no maps of the runner-up.
    if enough and all(example.runner_up_maps for example in complete.examples[:wanted]):
        return complete
    # Only the model can make more maps. Scores that are complete are not computed again.
    if "command" in complete.manifest:
        return _run(parser, options)
    if enough or options.gallery is None:
        return complete
    raise ValueError(
        f"the comparison keeps the maps of {len(complete.examples)} samples and was not started by this command; leave "
        "--gallery out, or add maps by compare_methods(..., resume=True)."
    )


def _draws_examples(options: argparse.Namespace) -> bool:
    return any(getattr(options, name) is not None for name in _PICTURED)


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Comparison:
    from torch.utils.data import Subset

    from captum_softcam.evaluation import compare_methods

    refuse_stored_code(options.named, options)
    classifier, samples, inventory = model_and_samples(options)
    # the first samples are a balanced choice, because all readers alternate between the classes
    count = min(options.samples or len(samples), len(samples))
    comparison = compare_methods(
        classifier.model.to(device_of(options)),
        Subset(samples, range(count)),
        options.methods,
        metrics_of(options, inventory),
        layer=options.layer,
        normalize=classifier.normalize,
        explain=options.explain,
        scores=classifier.scores,
        baseline=options.baseline,
        perturb_baseline=options.perturb_baseline,
        batch_size=options.batch_size,
        seed=options.seed,
        examples=(options.gallery or _GALLERY) if _draws_examples(options) else _EXAMPLES,
        # Only report and sheets show the runner-up, whose maps cost one more attribution per example. A regression has none.
        runner_up=_draws_examples(options) and len(classifier.scored_classes) > 1,
        probes=options.probes,
        folder=options.out,
        resume=options.resume,
        engine=engine_of(options),
        notes={**provenance(options, classifier, inventory), "command": plain_options(parser, options)},
        passes=options.passes,
        strict=options.strict,
        show_progress=True,
    )
    _print_cut_off(comparison, samples, count)
    return comparison


def _print_cut_off(comparison: Comparison, samples: RetinalLesions | MaskedImages, count: int) -> None:
    """Print how many of the masks lie in the margins that are cut off, so that the network did not see their regions."""
    from captum_softcam.data import RetinalLesions

    if isinstance(samples, RetinalLesions):
        return
    read = [index for index in range(count) if samples.identifier(index) not in comparison.unreadable]
    masked = sum(map(samples.has_mask, read))
    missing = masked - int(comparison.manifest["samples_with_mask"])
    if missing > 0:
        print(f"{missing} of {masked} masks lie in the margin that is cut off and do not count for localisation; see --fit.")


def _write(options: argparse.Namespace, comparison: Comparison) -> None:
    """Write table, pictures, report and sheets of a complete comparison."""
    from captum_softcam.evaluation.checkpoint import Checkpoint, is_complete
    from captum_softcam.report import write_pictures, write_report, write_sheets

    classes = comparison.manifest.get("classes")
    with owned(options.out):
        if is_complete(options.out):
            Checkpoint(options.out, comparison.manifest.get("run", "")).close()  # removes what a killed process left
        write_pictures(comparison, options.out, classes, adjust=_ADJUST[options.marks])
    kept = len(comparison.examples) if options.gallery is None else min(options.gallery, len(comparison.examples))
    for name in _PICTURED:
        if (path := getattr(options, name)) is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if options.report is not None:
            if options.resume and _is_report_of(options.report, comparison.manifest.get("run")):
                options.report.unlink()  # of the same run, when it had fewer samples
            gallery = None if options.gallery is None else kept
            write_report(comparison, options.report, classes, gallery=gallery, adjust=_ADJUST[options.marks])
        if options.sheets is not None:
            write_sheets(replace(comparison, examples=comparison.examples[:kept]), options.sheets, classes)
    except FileExistsError as error:
        # It appeared during the run. A ValueError, because a FileExistsError says that --out belongs to another run.
        raise ValueError(str(error)) from error


def _print_what_next(options: argparse.Namespace, comparison: Comparison) -> None:
    """Print how to go on if samples could not be read, and where the results are."""
    if comparison.unreadable:
        print(f"After their files were repaired or removed, go on with: {resume_command(options)}")
    print(f"Scores per sample, settings, table and picture: {shown(options.out, LINE)}/")
    if options.report is not None:
        print(f"Report: {shown(options.report, LINE)}")
    if options.sheets is not None:
        print(f"Sheets: {shown(options.sheets, LINE)}")


def _restore(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Comparison | None:
    """Restore the options of the run in ``--out``, and return its comparison if that is complete."""
    from captum_softcam.evaluation import Comparison
    from captum_softcam.evaluation.checkpoint import Checkpoint, is_complete, refuse_existing

    if options.out is None:
        raise ValueError("--resume needs --out: the folder of the interrupted run.")
    complete = Comparison.load(options.out) if is_complete(options.out) else None
    asked = [name for name in _PICTURED if getattr(options, name) is not None]
    notes = Checkpoint.read(options.out)["notes"] if complete is None else complete.manifest
    stored = notes.get("command")
    if stored is not None:
        restore_options(parser, options, stored, _FREE)
    elif complete is None:
        raise ValueError(
            f"the comparison in '{shown(options.out)}' was not started by this command; resume it by compare_methods."
        )
    # The report of a run with unreadable samples is written anew.
    own = complete is None and _is_report_of(options.report, Checkpoint.read(options.out)["run"])
    for name in _PICTURED:
        path = getattr(options, name)
        if name in asked or path is None or (name == "report" and own):
            continue
        if os.path.lexists(path):  # the first run has written it, and was interrupted afterwards
            print(f"'{path}' exists already and is not written again; --{name} PATH writes another.")
            setattr(options, name, None)
        else:
            refuse_existing(path, f"--{name}")
    return complete


def _is_report_of(report: Path | None, run: str | None) -> bool:
    """Check whether a file is the report of a run, which contains the random name of that run."""
    return report is not None and run is not None and os.path.isfile(report) and run.encode() in report.read_bytes()
