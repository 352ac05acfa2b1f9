import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from autotrain.hardware.cpu import CpuFacts
from autotrain.measure.session import Failed, Session
from autotrain.plan.evidence import Evidence, Verdict
from autotrain.plan.plan import Plan
from autotrain.report.html.page import report_page, summary_snippet
from autotrain.report.worth import value_text
from autotrain.search.probe import finding_of
from autotrain.search.recorder import describe
from autotrain.settings import Settings

VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE = "<script>alert(1)</script>\"'&<!--"


class Document(HTMLParser):
    """What a page holds; it complains where an element is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] not in ("script", "style"):
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.texts).split())


def sections_of(page: str) -> list[str]:
    return [str(entry["id"]) for entry in Document(page).all("section")]


def test_a_rich_session_has_every_section_and_figure(rich_page):
    assert sections_of(rich_page) == [
        *("time", "resources", "settings", "duel", "search", "slices", "augmentation", "numerics", "what-if"),
        *("predictions", "cost", "schedule", "machine", "data"),
    ]
    assert [entry["id"] for entry in Document(rich_page).all("svg") if entry.get("role") == "img"] == [
        *("ratio-plot", "duel-plot", "history-plot", "guard-1", "guard-2", "predictions-plot", "schedule-plot"),
    ]


def test_a_proven_plan_leads_with_the_ratio_and_its_interval(rich_page):
    words = Document(rich_page).words
    for part in (
        "Faster, proven in a duel 1.94x the default's images/s",
        "95% interval 1.93x to 1.95x, from 8 pairs of turns side by side.",
        "The choice: bf16, channels-last, 1 thread, 2 workers.",
        "Default 204 images/s 199 to 208, n=8",
        "Choice 397 images/s 390 to 403, n=8",
        "The planned training takes 25 s instead of 49 s, 10,020 images",
        "The probe pays back after 31.2 epochs 31.0 to 31.4",
        "66% loading, 34% training",
        "memory_format = channels_last instead of contiguous 0.91x 0.89 to 0.94, n=12 1.12x",
        "dead worker",
        "cannot exceed 201 images/s; the best so far has 398",
        "stopped early, clearly behind number 4 with 370",
        "but failed: numerics guard: a loss that is not finite",
        "precision tf32 a format of CUDA devices",
        "crop, in workers chosen 3% (0% to 5%) 390 (380 to 399)",
        "rand, on the device 25% predicted 300 predicted",
        "disqualified",
        "a loss that is not finite",
        "finite losses not finite",
        "a device 10 times as fast as these cores",
        "Predictions were off by 10% in the median",
        "rank 1 b 100 ms 60 ms",
        "first read at 100 MB/s",
        "the validation images are few",
        "torch 2.15.0",
        "precision: bf16",
    ):
        assert part in words, part


def test_everything_that_was_not_measured_has_its_reason(rich, rich_page):
    words = Document(rich_page).words
    for entry in rich.failures:
        assert f"{describe(entry.settings, rich.default)} {'in training alone ' * entry.alone}{entry.reason}" in words
    for knob, value, reason in rich.left_out:
        assert f"{knob} {value_text(value)} {reason}" in words


def test_nothing_proven_is_said_as_plainly(inconclusive, told):
    page = report_page(inconclusive, None, told.finding)
    words = Document(page).words
    assert "Inconclusive Nothing beats the default beyond the noise, so the default stays" in words
    assert "The best candidate, channels-last, 2 workers, gave 1.00x (0.99 to 1.01, n=8) in the duel" in words
    assert "pays back after" not in words
    assert "settings" not in sections_of(page)


def test_a_probe_that_was_stopped_at_once_still_gives_a_page(told):
    session = Session(
        machine=told.session.machine, job=told.session.job, default=told.session.default, cores=2, interrupted=True
    )
    page = report_page(session)
    assert sections_of(page) == ["search", "cost", "machine", "data"]
    words = Document(page).words
    assert "Not proven" in words
    assert "Nothing was trained with in full." in words


def test_a_probe_that_was_stopped_after_the_default(told):
    session = replace(
        told.session, chosen=None, duels=(), guards=(), failures=(), measurements=told.session.measurements[:1]
    )
    page = report_page(replace(session, interrupted=True), None, None)
    assert "time" in sections_of(page)
    assert "Not proven" in Document(page).words


@pytest.mark.parametrize("count", range(0, 44, 4))
def test_a_probe_that_was_stopped_at_any_time(earlier, count):
    session = replace(
        earlier,
        measurements=earlier.measurements[:count],
        chosen=None,
        duels=(),
        guards=(),
        attributions=(),
        largest_batch=None,
        profile=earlier.profile if count > 3 else None,
        interrupted=True,
    )
    page = report_page(session, None, finding_of(session))
    assert "Not proven" in Document(page).words
    assert ("time" in sections_of(page)) == (count > 0)


def test_a_duel_of_one_pair_has_no_interval(told):
    duel = told.session.duels[0]
    short = replace(duel, baseline_rates=duel.baseline_rates[:1], candidate_rates=duel.candidate_rates[:1])
    page = report_page(replace(told.session, chosen=None, duels=(short,), interrupted=True))
    assert "1 pair: ratios from 1.94 to 1.94. Too few for an interval." in Document(page).words


def test_a_session_of_an_earlier_version(earlier, earlier_page):
    assert earlier.job.schedule == ()
    found = sections_of(earlier_page)
    assert {"time", "resources", "settings", "duel", "search", "numerics", "what-if", "predictions"} <= set(found)
    assert "schedule" not in found
    assert "1.98x the default's images/s" in Document(earlier_page).words


@pytest.mark.parametrize("text", [HOSTILE, "\x00\x08\udc80\u202e", "a" * 500])
def test_no_text_becomes_markup(rich, told, text):
    session = replace(
        rich,
        job=replace(rich.job, model=text, dataset=text, samples_kind=text),
        machine=replace(
            rich.machine,
            cpu=CpuFacts(name=text, logical=2, usable=2, affinity=2, quota=None, features=(text,)),
            versions=((text, text),),
        ),
        failures=(
            Failed(settings=told.plan.settings, reason=text),
            Failed(settings=Settings(), reason=text, pruned=True),
        ),
        left_out=(("precision", text, text),),
        guards=(replace(rich.guards[0], problem=text, shares=((text, 0.5),)),),
        notes=(text,),
    )
    finding = replace(told.finding, evidence=(text,), remedy_words=text)
    page = report_page(session, None, finding)
    clean = report_page(rich, None, told.finding)
    document, usual = Document(page), Document(clean)
    assert len(document.all("script")) == len(usual.all("script")) == 1
    assert {tag for tag, _ in document.tags} == {tag for tag, _ in usual.tags}
    page.encode("utf-8")
    assert not set("\x00\x08\u202e") & set(page)
    if text == HOSTILE:
        assert page.count("<script>") == 1
        assert "<!--" not in page
        assert document.words.count("<script>alert(1)</script>") > 8
        assert "<script>" not in summary_snippet(session, told.plan, finding)


def test_nothing_comes_from_outside(rich_page):
    for tag, attributes in Document(rich_page).tags:
        for name, value in attributes.items():
            if name in ("src", "href", "action", "srcset", "data", "xlink:href"):
                assert str(value).startswith(("#", "data:")), (tag, name, value)
    style = re.search(r"<style>(.*?)</style>", rich_page, re.DOTALL)
    assert style is not None
    assert "@import" not in style[1]
    assert re.findall(r"url\(([^)]*)\)", style[1]) == ["#hatch"]
    policy = next(entry for entry in Document(rich_page).all("meta") if "http-equiv" in entry)
    assert str(policy["content"]).startswith("default-src 'none'")


def test_the_session_can_be_saved_from_the_page(rich, rich_page):
    link = next(entry for entry in Document(rich_page).all("a") if "download" in entry)
    kind, _, content = str(link["href"]).partition(",")
    text = base64.b64decode(content).decode()
    assert (link["download"], kind) == ("session.json", "data:application/json;base64")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert report_page(Session.from_json(text)) == report_page(rich)


def test_the_plan_on_the_page_is_the_plan(rich_page, told):
    start = rich_page.index("<code>") + len("<code>")
    document = Document(rich_page[start - len("<code>") : rich_page.index("</code>", start) + len("</code>")])
    assert Plan.from_yaml("".join(document.texts)).settings == told.plan.settings


def test_a_plan_that_the_session_did_not_choose_is_pointed_out(told):
    other = Plan(settings=replace(told.plan.settings, workers=7))
    words = Document(report_page(told.session, other, told.finding)).words
    assert "The plan below is not what this session chose: it has workers = 7." in words
    assert "1.94x the default's images/s" in words
    assert "workers: 7" in words


def test_a_plan_without_evidence_has_the_session_s(told):
    plan = Plan(settings=told.plan.settings, evidence=Evidence(verdict=Verdict.GIVEN))
    assert "1.94x the default's images/s" in Document(report_page(told.session, plan)).words


def test_the_same_session_gives_the_same_page(earlier, earlier_page):
    assert report_page(earlier, None, finding_of(earlier)) == earlier_page


def test_tables_have_captions_and_headers(rich_page):
    document = Document(rich_page)
    tables = len(document.all("table"))
    assert tables == len(document.all("caption")) > 10
    assert all(entry.get("scope") in ("row", "col") for entry in document.all("th"))
    ids = [str(entry["id"]) for _, entry in document.tags if "id" in entry]
    assert len(ids) == len(set(ids))
    for entry in document.all("svg"):
        assert entry.get("aria-hidden") == "true" or set(str(entry["aria-labelledby"]).split()) <= set(ids)
    assert document.all("a")[0]["href"] == "#main"


def test_a_summary_for_notebooks_leads_with_the_verdict(told):
    piece = summary_snippet(told.session, told.plan, told.finding)
    words = Document(piece).words
    assert words.startswith("1.94x the default's images/s (faster, proven in a duel)")
    assert "memory_format channels-last 1.12x (1.08 to 1.15)" in words
    assert "<style" not in piece
    assert "<script" not in piece
