"""The page: sections put into a template that escapes, with style and script inside it and nothing outside."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from importlib.resources import files as resource_files

import jinja2
from markupsafe import Markup

import autotrain
from autotrain import files
from autotrain.diagnose.finding import Finding
from autotrain.errors import PlanError
from autotrain.measure.session import Session
from autotrain.plan.evidence import Verdict
from autotrain.plan.plan import Plan
from autotrain.report.html.blocks import Download, Headline, Section
from autotrain.report.html.facts import cost_section, data_section, machine_section
from autotrain.report.html.gain import numerics_section, policy_section, worth_section
from autotrain.report.html.headline import headline, subtitle
from autotrain.report.html.outlook import prediction_section, schedule_section, what_if_section
from autotrain.report.html.search import duel_section, search_section
from autotrain.report.html.slices import slice_section
from autotrain.report.html.svg import clean
from autotrain.report.html.where import resource_section, time_section
from autotrain.search.planner import plan_of
from autotrain.search.recorder import value_words

REPORT_FILE = files.FileKind(
    noun="report",
    example="report.html",
    most_bytes=1 << 30,
    origin="Make one with `autotrain report session.json`",
    error=PlanError,
)


def report_page(session: Session, plan: Plan | None = None, finding: Finding | None = None) -> str:
    """Return the report as one HTML document that needs nothing from outside.

    Args:
        session: all measurements.
        plan: what was chosen; made anew from the session where it is not given. One that has no evidence, or that names
            other settings than the session chose, is shown beside the session's own evidence.
        finding: the default's bottleneck.
    """
    own = plan_of(session, finding)
    given = own if plan is None else plan
    fits = given.evidence.verdict is not Verdict.GIVEN and given.settings == own.settings
    told = given if fits else replace(own, provenance=given.provenance)
    sections = tuple(_sections(session, told, given, finding))
    page: str = (
        _environment()
        .get_template("page.html")
        .render(
            title=f"autotrain: {session.job.model} on {session.job.dataset}",
            subtitle=subtitle(session, told),
            notice=_notice(given, own),
            headline=headline(session, told, finding),
            sections=sections,
            style=Markup(_resource("style.css")),
            script=Markup(_resource("script.js")),
            script_hash=_hash(_resource("script.js")),
            version=autotrain.__version__,
        )
    )
    return page


def summary_snippet(session: Session, plan: Plan, finding: Finding | None) -> str:
    """Return the headline as a piece of HTML, for a notebook, in the colours that are around it."""
    top: Headline = headline(session, plan, finding)
    changes = [(name, value_words(name, value)) for name, value in plan.settings.changes(session.default).items()]
    piece: str = (
        _environment()
        .get_template("summary.html")
        .render(headline=top, subtitle=subtitle(session, plan), changes=changes, worth=plan.evidence.worth)
    )
    return piece


def save_report(
    path: str | os.PathLike[str], session: Session, plan: Plan | None = None, finding: Finding | None = None
) -> None:
    """Write the report to ``path``; a file that is there is replaced at once or, after a failure, kept.

    Raises:
        PlanError: the place cannot be written.
    """
    files.write_text(path, report_page(session, plan, finding), REPORT_FILE)


def _sections(session: Session, told: Plan, given: Plan, finding: Finding | None) -> Iterator[Section]:
    for section in (
        time_section(session, told, finding),
        resource_section(session, told),
        worth_section(told),
        duel_section(session),
        search_section(session, told),
        slice_section(session, told),
        policy_section(session, told),
        numerics_section(session, told),
        what_if_section(session, told),
        prediction_section(session),
        cost_section(session, told),
        schedule_section(session),
        machine_section(session, told),
        data_section(session, given),
    ):
        if section is not None:
            yield section


def _notice(given: Plan, own: Plan) -> str:
    """Say where a plan that was given is not what the session came to."""
    changes = given.settings.changes(own.settings)
    if not changes:
        return ""
    others = ", ".join(f"{name} = {value}" for name, value in changes.items())
    return (
        f"The plan below is not what this session chose: it has {others}. All measurements on this page are the "
        "session's; its choice is what they speak of."
    )


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_clean,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["data_uri"] = _data_uri
    return made


@lru_cache(maxsize=8)
def _resource(name: str) -> str:
    return (resource_files("autotrain.report.html") / "templates" / name).read_text(encoding="utf-8")


def _clean(value: object) -> object:
    """Return plain text as a page can hold it; everything else is left to the template."""
    return clean(value) if type(value) is str else value


def _hash(script: str) -> str:
    """Return what the page's policy calls the script by: no other one may run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _data_uri(block: Download) -> str:
    """Return a file as an address; base64 has no letter that means anything to HTML."""
    content = base64.b64encode(block.content.encode()).decode()
    return f"data:{block.media_type};base64,{content}"
