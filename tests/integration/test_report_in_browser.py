"""The report in a real browser: nothing is complained of or asked for, figures are there, keys reach everything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser import Browser, find_chromium
from unit.report.html.sessions import PAGES

CHROMIUM = find_chromium()

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

SECTIONS = {
    "earlier": (
        *("time", "resources", "settings", "duel", "search", "slices", "numerics", "what-if", "predictions", "cost"),
        *("machine", "data"),
    ),
    "rich": (
        *("time", "resources", "settings", "duel", "search", "slices", "augmentation", "numerics", "what-if"),
        *("predictions", "cost", "schedule", "machine", "data"),
    ),
    "inconclusive": (
        *("time", "resources", "duel", "search", "slices", "numerics", "what-if", "predictions", "cost"),
        *("machine", "data"),
    ),
}
"""Sections of each page, in order."""

PLOTS = {
    "earlier": ("ratio-plot", "duel-plot", "history-plot", "guard-1", "predictions-plot"),
    "rich": (*("ratio-plot", "duel-plot", "history-plot", "guard-1", "guard-2", "predictions-plot", "schedule-plot"),),
    "inconclusive": ("ratio-plot", "duel-plot", "history-plot", "guard-1"),
}
PICTURED = ("time", "resources", "settings", "search", "slices", "augmentation", "what-if")
"""Sections whose tables have pictures in their rows."""

UNFOLD = "document.querySelectorAll('details').forEach(entry => { entry.open = true; })"
SIZES = """[...document.querySelectorAll('%s')].map(
  svg => [svg.getBoundingClientRect().width, svg.getBBox().width, svg.getBBox().height])"""
RUN_INTO = """[...document.querySelectorAll('svg')].flatMap(svg => {
  const words = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
  return words.flatMap(([first, a], place) => words.slice(place + 1)
    .filter(([, b]) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)
    .map(([second]) => `${svg.id || svg.closest('section').id}: ${first} | ${second}`));
})"""
"""Words of a figure that lie on each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A report, and where it lies."""

    name: str
    path: Path


@pytest.fixture(scope="module", params=PAGES)
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = tmp_path_factory.mktemp("report") / f"{request.param}.html"
    path.write_text(PAGES[request.param](), encoding="utf-8")
    return Page(name=request.param, path=path)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None
    with Browser(CHROMIUM) as made:
        yield made


def test_it_opens_without_complaints_or_requests(browser: Browser, page: Page) -> None:
    for dark in (False, True):
        browser.open(page.path, dark=dark)
        assert browser.complaints() == []
        assert [address for address in browser.requests() if address != page.path.as_uri()] in ([], ["data:,"])
        ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(20, 23, 28)" if dark else "rgb(255, 255, 255)")


@pytest.mark.parametrize("width", [1200, 360])
def test_every_section_and_figure_is_there_and_drawn(browser: Browser, page: Page, width: int) -> None:
    browser.open(page.path, width=width)
    browser.evaluate(UNFOLD)
    found = browser.evaluate("[...document.querySelectorAll('main > section')].map(section => section.id)")
    assert found == list(SECTIONS[page.name])
    for name in SECTIONS[page.name]:
        words = browser.evaluate(f"document.querySelector('#{name} > :not(h2)').innerText.trim()")
        assert words, f"nothing under the heading of {name}"
    for name in PLOTS[page.name]:
        (size,) = browser.evaluate(SIZES % f"svg#{name}")
        assert min(size) > 30, (name, size)
    for name in set(PICTURED) & set(SECTIONS[page.name]):
        sizes = browser.evaluate(SIZES % f"#{name} svg.strip")
        assert sizes, f"no pictures in {name}"
        assert min(size[0] for size in sizes) > 60, name
        assert min(max(size[1:]) for size in sizes) > 4, name


@pytest.mark.parametrize("width", [1200, 700, 360])
def test_nothing_is_cut_off_or_written_over_another(browser: Browser, page: Page, width: int) -> None:
    browser.open(page.path, width=width)
    browser.evaluate(UNFOLD)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(RUN_INTO) == []
    if width == 1200:
        tables = "[...document.querySelectorAll('div.scroll')].filter(entry => entry.scrollWidth > entry.clientWidth)"
        assert browser.evaluate(f"{tables}.map(entry => entry.dataset.name)") == []


def test_the_theme_can_be_chosen_and_the_plan_copied(browser: Browser, page: Page) -> None:
    browser.open(page.path)
    themes = []
    for _ in range(3):
        browser.evaluate("document.getElementById('theme').click()")
        themes.append(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert themes == ["rgb(255, 255, 255)", "rgb(20, 23, 28)", "rgb(255, 255, 255)"]
    browser.evaluate("document.querySelector('[data-copy]').click()")
    browser.evaluate("new Promise(done => setTimeout(done, 300))")
    told = browser.evaluate("document.querySelector('[data-copy]').textContent")
    assert told in ("Copied", "Selected: press Ctrl-C")
    assert browser.complaints() == []


def test_the_first_key_leads_past_the_contents(browser: Browser, page: Page) -> None:
    browser.open(page.path)
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.textContent") == "Skip to the report"
    assert browser.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_without_scripts_everything_can_be_read(browser: Browser, page: Page) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(page.path)
    shown = browser.call("Page.captureScreenshot", format="png")["data"]
    assert len(shown) > 20_000
    found = browser.call("DOM.getDocument", depth=-1)["root"]
    assert found["nodeName"] == "#document"
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    hidden = browser.evaluate("[...document.querySelectorAll('[hidden]')].map(node => node.tagName)")
    assert hidden == ["BUTTON", "BUTTON"]


def test_it_prints_on_white_with_everything_unfolded(browser: Browser, page: Page) -> None:
    browser.open(page.path, dark=True)
    browser.call(
        "Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    browser.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert browser.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    assert len(browser.call("Page.printToPDF", printBackground=True)["data"]) > 50_000
