"""The report as one HTML text: sections, style, script and data in a page that fetches nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from string import Template

from captum_softcam.report.html.facts import Facts, count
from captum_softcam.report.html.figures import cost_data, curve_data
from captum_softcam.report.html.gallery import gallery_data
from captum_softcam.report.html.markup import Html, element, json_text, text
from captum_softcam.report.html.scores import scores_section
from captum_softcam.report.html.settings import failures_section, settings_section
from captum_softcam.report.html.summary import summary_section

__all__ = ["make_page"]

_SCRIPTS = ("page.js", "table.js", "plots.js", "gallery.js")


def make_page(facts: Facts) -> str:
    """The whole file."""
    curves, gallery = curve_data(facts), gallery_data(facts)
    sections = [
        summary_section(facts),
        scores_section(facts),
        _part("curves.html") if curves else None,
        _part("gallery.html") if gallery else None,
        _part("costs.html"),
        failures_section(facts),
        settings_section(facts),
    ]
    body = [section for section in sections if section]
    style, script = _part("style.css"), Html("".join(map(_part, _SCRIPTS)))
    return Template(_part("template.html")).substitute(
        policy=_policy(style, script),
        title=text(f"{count(len(facts.methods), 'attribution method')}, compared"),
        subtitle=_subtitle(facts),
        navigation="".join(map(_link, body)),
        style=style,
        body="\n".join(body),
        data=json_text(_names(facts) | {"curves": curves, "gallery": gallery, "costs": cost_data(facts)}),
        script=script,
    )


def _part(name: str) -> Html:
    return Html(files(__package__).joinpath(name).read_text(encoding="utf-8"))


def _policy(style: str, script: str) -> str:
    """Nothing may be fetched, and only this very style and script may run."""
    return f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; " + (
        "base-uri 'none'; form-action 'none'"
    )


def _digest(code: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


def _link(section: str) -> Html:
    """A link to a section, with the section's own heading."""
    found = re.search(r'<section id="(\w+)".*?<h2>(.*?)</h2>', section, re.DOTALL)
    assert found, "every section has a name and a heading"
    return element("a", Html(found[2]), href=f"#{found[1]}")


def _subtitle(facts: Facts) -> Html:
    manifest = facts.manifest
    layer = f" (layer {manifest['layer']})" if manifest.get("layer") else ""
    model = f"{manifest['model']}{layer}, " if manifest.get("model") else ""
    return text(model + count(facts.samples, "sample"))


def _names(facts: Facts) -> dict[str, object]:
    """Methods and metrics as the script needs them."""
    return {
        "methods": [_method(facts, name) for name in facts.methods],
        "metrics": [
            {
                "name": name,
                "title": facts.title(name),
                "higher": facts.higher_is_better(name),
                "decimals": facts.decimals[name],
            }
            for name in facts.metrics
        ],
        "classes": facts.classes,
    }


def _method(facts: Facts, name: str) -> dict[str, object]:
    return {"name": name, "control": name in facts.controls, "baseline": name == facts.baseline}
