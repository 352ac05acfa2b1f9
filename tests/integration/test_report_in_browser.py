"""The report in a real browser: nothing is complained of or asked for, figures are there, keys reach everything."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, find_chromium

from autotrain.measure.session import Session
from autotrain.report.html.page import report_page
from autotrain.search.probe import finding_of

EARLIER = Path(__file__).parents[1] / "unit" / "report" / "html" / "session_of_an_earlier_version.json"
CHROMIUM = find_chromium()

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    session = Session.load(EARLIER)
    place = tmp_path_factory.mktemp("report") / "report.html"
    place.write_text(report_page(session, None, finding_of(session)), encoding="utf-8")
    return place


@pytest.fixture
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None
    with Browser(CHROMIUM) as made:
        yield made


def test_it_opens_without_complaints_requests_or_empty_figures(browser: Browser, page: Path) -> None:
    for width, dark in ((1200, False), (360, True)):
        browser.open(page, width=width, dark=dark)
        assert browser.complaints() == []
        assert [address for address in browser.requests() if address != page.as_uri()] in ([], ["data:,"])
        sizes = browser.evaluate(
            "[...document.querySelectorAll('svg.plot, svg.strip')]"
            ".filter(svg => !svg.closest('details:not([open])'))"
            ".map(svg => [svg.getBoundingClientRect().width, svg.getBBox().width, svg.getBBox().height])"
        )
        assert len(sizes) > 30
        assert min(size[0] for size in sizes) > 60
        assert min(max(size[1:]) for size in sizes) > 4
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(20, 23, 28)" if dark else "rgb(255, 255, 255)")


def test_the_theme_can_be_chosen_and_the_plan_copied(browser: Browser, page: Path) -> None:
    browser.open(page)
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


def test_the_first_key_leads_past_the_contents(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.textContent") == "Skip to the report"
    assert browser.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_without_scripts_everything_can_be_read(browser: Browser, page: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(page)
    shown = browser.call("Page.captureScreenshot", format="png")["data"]
    assert len(shown) > 20_000
    found = browser.call("DOM.getDocument", depth=-1)["root"]
    assert found["nodeName"] == "#document"
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    hidden = browser.evaluate("[...document.querySelectorAll('[hidden]')].map(node => node.tagName)")
    assert hidden == ["BUTTON", "BUTTON"]


def test_it_prints_on_white_with_everything_unfolded(browser: Browser, page: Path) -> None:
    browser.open(page, dark=True)
    browser.call(
        "Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    browser.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert browser.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    assert len(browser.call("Page.printToPDF", printBackground=True)["data"]) > 50_000
