"""The report of a results dataset as one self-contained HTML page.

The page loads nothing and runs nothing. Its templates (`templates/`) escape whatever comes from the data.
"""

import base64
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import xarray as xr

from gandyn.analysis import tables
from gandyn.report import sections
from gandyn.report.facts import facts, incompleteness, provenance, status
from gandyn.report.findings import headlines
from gandyn.report.sections import Section
from gandyn.report.writing import put


def _held(text: str) -> markupsafe.Markup:
    """Text as inert HTML, with numbers held together with their percent signs."""
    return markupsafe.escape(text).replace(" %", markupsafe.Markup("&nbsp;%"))


_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters["held"] = _held


def _figure(results: xr.Dataset, section: Section) -> dict[str, Any]:
    """What the template of a figure reads."""
    shown, left_out = sections.left_out(results, section)
    figure = section.draw(results, shown)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return {
        "heading": section.heading,
        "caption": section.caption + left_out,
        "png": base64.b64encode(buffer.getvalue()).decode("ascii"),
        # No wider than the text in it takes: letters in figures and page are then of one size.
        "width": round(100 * figure.get_figwidth()),
    }


def render(results: xr.Dataset, answers: Sequence[str] = (), page: str | None = None) -> str:
    """The report as HTML; ``answers`` and ``page`` as in `write`."""
    rows = tables.table(results)
    sentences, curves = sections.others(results)
    return _TEMPLATES.get_template("page.html").render(
        title=str(results.attrs.get("title") or "Results of gandyn"),
        facts=f"{facts(results)}; {status(results)}",
        page=page,
        lacking=incompleteness(results),
        headlines=[*answers, *headlines(results, rows)],
        verdicts=sections.verdicts(results),
        figures=[_figure(results, section) for section in sections.figures(results)],
        others={"sentences": sentences, "figures": [_figure(results, section) for section in curves]}
        if sentences or curves
        else None,
        command=str(results.attrs.get("command", "not recorded")),
        configuration=str(results.attrs.get("configuration", "not recorded")),
        provenance=provenance(results),
        **sections.table(rows),
    )


def write(
    results: xr.Dataset, path: str | os.PathLike[str], answers: Sequence[str] = (), page: str | None = None
) -> Path:
    """Writes the report as one HTML file that needs no other file and no network, and returns its path.

    Args:
        results: the dataset of `gandyn.open_results`.
        path: the file to write. Its folder is made where it is lacking; a file that is there is replaced, at once.
        answers: sentences that stand before the findings that every report has.
        page: name of the file beside it in which the sweep can be looked into (`gandyn page`), to link to; None where
            there is none.
    """
    return put(render(results, answers, page), path)
