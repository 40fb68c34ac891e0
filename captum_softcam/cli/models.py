"""``captum-softcam compare --model A --model B``: several models in one table."""

from __future__ import annotations

import argparse
import copy
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from captum_softcam._files import read_json, write_text
from captum_softcam._names import LINE, closest, quoted, shown
from captum_softcam.cli.data import names_data
from captum_softcam.cli.inputs import engine_of, metrics_of, model_and_samples, provenance, with_classes_of_data
from captum_softcam.cli.model import load_model, refuse_stored_code
from captum_softcam.cli.options import absolute_model, device_of, messages_apart, plain_options, restore_options

if TYPE_CHECKING:
    from captum_softcam.evaluation import ModelComparison
    from captum_softcam.evaluation.view import Adjust
    from captum_softcam.softcam import Classifier

__all__ = ["compare_several", "names_several", "restore_several"]

_MODELS_FILE = "models.json"  # that of the evaluation, which imports torch
_CURE = "Copy it back from where it is whole, or start the comparison anew in another folder"
_OWN = ("layer", "checkpoint")  # options that each model can have for itself


class _Model(NamedTuple):
    """A model that the options name: its name, its group, and the options of a run of it alone."""

    name: str
    group: str
    options: argparse.Namespace


def names_several(options: argparse.Namespace) -> bool:
    """Check whether the options name several models, or the folder of several is resumed."""
    resumed = options.resume and options.out is not None and os.path.isfile(options.out / _MODELS_FILE)
    return isinstance(options.model, list) or resumed


def restore_several(parser: argparse.ArgumentParser, options: argparse.Namespace, free: Collection[str]) -> None:
    """Restore the options that a run of several models was started with."""
    if options.out is None:
        raise ValueError("--resume needs --out: the folder of the interrupted run.")
    if not os.path.isfile(options.out / _MODELS_FILE):
        raise ValueError(f"'{shown(options.out)}' holds a run of one model or none; leave out all but one --model.")
    stored = read_json(options.out / _MODELS_FILE, _CURE).get("notes", {}).get("command")
    if stored is None:
        raise ValueError(
            f"the models in '{shown(options.out)}' were not compared by this command; resume them by compare_models."
        )
    if isinstance(options.model, list):
        _name_files(options)
    asked = options.model if isinstance(options.model, list) else []
    restore_options(parser, options, stored, free)
    for model in _models(options):
        refuse_stored_code(model.options.model if options.model == asked else "", model.options)


def compare_several(parser: argparse.ArgumentParser, options: argparse.Namespace, adjust: Adjust, examples: int) -> None:
    """Compare methods on several models, write a folder for each and their tables, and print the table of all."""
    from captum_softcam.evaluation.checkpoint import refuse_existing
    from captum_softcam.report import print_table

    if options.sheets is not None:
        raise ValueError(
            "--sheets is for one model; leave it out, and afterwards draw them by --resume with the folder of one model."
        )
    with messages_apart(options):
        _name_files(options)
        models = _models(options)
        for path in [] if options.resume else _reports(options, [model.name for model in models]).values():
            refuse_existing(path, "--report")  # before the run, because a refusal after hours would be too late
        comparison = _run(parser, options, models, examples)
        _write(options, comparison, adjust)
    print_table(comparison, form=options.format, adjust=adjust)
    with messages_apart(options):
        print(f"Tables of all models, and a folder for each: {shown(options.out, LINE)}/")


def _name_files(options: argparse.Namespace) -> None:
    """Give models their names and absolute paths, with which they are stored."""
    parts = [_parted(text) for text in options.model]
    total = Counter(name for name, _ in parts)
    unnamed = [name for (name, _), text in zip(parts, options.model, strict=True) if not text.startswith(f"{name}=")]
    twice = [name for name in unnamed if total[name] > 1]
    if twice:
        raise ValueError(
            f"several models are called {quoted(twice[0])}; name each by --model NAME=MODEL. Those of one NAME are a group."
        )
    options.model = [f"{name}={absolute_model(spec)}" for name, spec in parts]
    given = options.checkpoint if isinstance(options.checkpoint, list) else [options.checkpoint]
    if given[0] is not None:
        files = [_named(str(path), {name for name, _ in parts}) for path in given]
        options.checkpoint = [
            f"{name}={Path(file).absolute()}" if name else str(Path(file).absolute()) for name, file in files
        ]


def _parted(text: str) -> tuple[str, str]:
    """Return the name of a model and what it is loaded by, from ``NAME=MODEL`` or ``MODEL`` alone."""
    name, equals, spec = text.partition("=")
    if equals and re.fullmatch(r"[\w .-]+", name) and not os.path.isfile(text):
        if not spec:
            raise ValueError(f"--model {shown(text)} has a name and no model; pass NAME=MODEL.")
        return name, spec
    path = Path(text)
    return (path.stem if path.suffix and path.is_file() else text), text


def _models(options: argparse.Namespace) -> list[_Model]:
    """Return the models with the options of each; those of one name are numbered, and are a group."""
    parts = [_parted(text) for text in options.model]
    _refuse_same(options, parts)
    total, number = Counter(name for name, _ in parts), Counter[str]()
    own = {dest: _own_values(options, dest, total) for dest in _OWN}
    found = []
    for group, spec in parts:
        each = copy.copy(options)
        each.model = spec
        for dest, values in own.items():
            setattr(each, dest, values[group][number[group]])
        number[group] += 1
        found.append(_Model(f"{group} {number[group]}" if total[group] > 1 else group, group, each))
    return found


def _refuse_same(options: argparse.Namespace, parts: list[tuple[str, str]]) -> None:
    """Raise ValueError if a model is named twice with nothing that differs."""
    twice = [part for part, count in Counter(parts).items() if count > 1]
    if twice and not options.checkpoint:
        raise ValueError(f"--model {shown(twice[0][1])} is passed twice, with nothing that differs; leave one out.")


def _own_values(options: argparse.Namespace, dest: str, total: Mapping[str, int]) -> dict[str, list[Any]]:
    """Return the value of an option for each model of each name; ``NAME=VALUE`` is for one name, ``VALUE`` for all."""
    given = getattr(options, dest)
    found: dict[str, list[Any]] = {}
    for text in given if isinstance(given, list) else [given] if given is not None else []:
        name, value = _named(str(text), total)
        for each in [name] if name else total:
            found.setdefault(each, []).append(Path(value) if dest == "checkpoint" else value)
    for name, values in found.items():
        if len(values) not in (1, total[name]):
            raise ValueError(
                f"--{dest} has {len(values)} values for {quoted(name)}, which is {total[name]} models; pass one for all of "
                "them, or one for each."
            )
    return {name: (values := found.get(name, [None])) * (count // len(values)) for name, count in total.items()}


def _named(text: str, known: Collection[str]) -> tuple[str, str]:
    """Part ``NAME=VALUE``; the name is empty where there is none."""
    name, equals, value = text.partition("=")
    if not equals or os.path.isfile(text):
        return "", text
    if name not in known:
        raise ValueError(f"{quoted(text)} names the model {quoted(name)}, which is not there. {closest(name, known)}")
    return name, value


def _run(
    parser: argparse.ArgumentParser, options: argparse.Namespace, models: list[_Model], examples: int
) -> ModelComparison:
    from torch.utils.data import Subset

    from captum_softcam.evaluation import compare_models

    first = models[0]
    classifier, samples, inventory = model_and_samples(first.options)
    classifiers = {first.name: classifier}
    for model in models[1:]:
        classifiers[model.name] = _like(first, classifier, model)
        model.options.metrics, model.options.samples = first.options.metrics, first.options.samples
    count = min(first.options.samples or len(samples), len(samples))
    entries = {
        model.name: {
            "model": classifiers[model.name].model.to(device_of(options)),
            "normalize": classifiers[model.name].normalize,
            "scores": classifiers[model.name].scores,
            "layer": model.options.layer,
            "notes": {
                **provenance(model.options, classifiers[model.name], inventory),
                "command": plain_options(parser, model.options),
            },
        }
        for model in models
    }
    return compare_models(
        entries,
        Subset(samples, range(count)),
        options.methods,
        metrics_of(first.options, inventory),
        groups={model.name: model.group for model in models},
        explain=options.explain,
        baseline=options.baseline,
        perturb_baseline=options.perturb_baseline,
        passes=options.passes,
        batch_size=options.batch_size,
        seed=options.seed,
        examples=options.gallery or examples,
        runner_up=options.report is not None and len(classifier.scored_classes) > 1,
        probes=options.probes,
        folder=options.out,
        resume=options.resume,
        engine=engine_of(options),
        notes={"command": plain_options(parser, options)},
        strict=options.strict,
        show_progress=True,
    )


def _like(first: _Model, classifier: Classifier, model: _Model) -> Classifier:
    """Load another model, which must take the images of the first one and have its classes."""
    from captum_softcam.softcam import EMBEDDED

    own = names_data(model.options)
    if not own and model.options.model not in EMBEDDED:
        raise ValueError(f"model '{model.options.model}' needs --images: the embedded lesions are for the embedded models.")
    found = load_model(model.options)
    found = with_classes_of_data(model.options, found) if own else found
    for what, option, one, two in (
        ("sizes", "--size PIXELS", classifier.image_size, found.image_size),
        ("fits", "--fit MODE", str(classifier.fit), str(found.fit)),
        ("classes", "--classes A,B", classifier.scored_classes, found.scored_classes),
    ):
        if one != two:
            raise ValueError(
                f"models {quoted(first.name)} and {quoted(model.name)} have different {what}, {quoted(one)} and "
                f"{quoted(two)}; pass {option} for all of them, because their images must be the same."
            )
    return found


def _write(options: argparse.Namespace, comparison: ModelComparison, adjust: Adjust) -> None:
    """Write the files beside each comparison, a report of each if there is to be one, and the tables of all."""
    from captum_softcam.evaluation.model_comparison import folders_of
    from captum_softcam.report import write_pictures, write_report

    for name, folder in folders_of(comparison.models).items():
        each = comparison.comparisons[name]
        write_pictures(each, options.out / folder, each.manifest.get("classes"), adjust=adjust)
    for name, path in _reports(options, comparison.models).items():
        if not os.path.lexists(path):  # the first run may have written it
            each = comparison.comparisons[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            gallery = min(options.gallery or len(each.examples), len(each.examples))
            write_report(each, path, each.manifest.get("classes"), gallery=gallery, adjust=adjust)
        print(f"Report: {shown(path, LINE)}")
    head = '<!DOCTYPE html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Models</title>'
    page = f"{head}{comparison.to_html(adjust=adjust)}\n"
    tables = {"html": page, "md": comparison.to_markdown(adjust=adjust), "csv": comparison.to_csv(adjust=adjust)}
    for ending, text in tables.items():
        write_text(options.out / f"table.{ending}", text)


def _reports(options: argparse.Namespace, models: list[str]) -> dict[str, Path]:
    """Return the file of the report of each model: that of ``--report`` with the name of its folder."""
    from captum_softcam.evaluation.model_comparison import folders_of

    if options.report is None:
        return {}
    stem, suffix = options.report.stem, options.report.suffix
    return {name: options.report.with_name(f"{stem}-{folder}{suffix}") for name, folder in folders_of(models).items()}
