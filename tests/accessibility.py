"""Checks the HTML report with axe-core in a headless Chromium: ``make accessibility``.

Which rules are broken, how badly and how often is printed for the report of a stored session, in light and dark, wide
and narrow, folded and unfolded. Exit code 1 where anything is serious or critical, 2 where it could not be looked at.
axe-core comes from npm, into a temporary folder, or from the file that the option names.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from browser import Browser, find_chromium

from autotrain.measure.session import Session
from autotrain.report.html.page import report_page
from autotrain.search.probe import finding_of

AXE = "axe-core@4.14.1"
SESSION = Path(__file__).parent / "unit" / "report" / "html" / "session_of_an_earlier_version.json"
GRAVE = ("serious", "critical")
SIZES = (1200, 360)
RUN = """axe.run(document, {resultTypes: ["violations"]}).then(found => ({
  passes: found.passes.length,
  violations: found.violations.map(entry => ({
    id: entry.id, impact: entry.impact, help: entry.help, nodes: entry.nodes.map(node => node.html.slice(0, 120)),
  })),
}))"""


def axe_from_npm(folder: Path) -> Path:
    """Install axe-core into a folder; return its script."""
    command = [
        "npm",
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--prefix",
        str(folder),
        AXE,
    ]
    subprocess.run(command, check=True, timeout=120)
    return folder / "node_modules" / "axe-core" / "axe.min.js"


def check(pages: dict[str, Path], axe: str, chromium: str) -> list[tuple[str, dict[str, Any]]]:
    """Return what axe-core has against the pages, each time with where and how it was looked at."""
    found: list[tuple[str, dict[str, Any]]] = []
    with Browser(chromium) as browser:
        for name, page in pages.items():
            for width in SIZES:
                for dark in (False, True):
                    browser.open(page, width=width, dark=dark)
                    browser.evaluate("document.querySelectorAll('details').forEach(entry => { entry.open = true; })")
                    browser.evaluate(axe)
                    result = browser.evaluate(RUN)
                    where = f"{name}, {width} px, {'dark' if dark else 'light'}"
                    count = len(result["violations"])
                    print(f"{where:<40} {result['passes']} rules passed, {count} broken")
                    if not result["passes"]:
                        raise RuntimeError(f"{where}: axe-core looked at nothing")
                    found += [(where, violation) for violation in result["violations"]]
    return found


def main() -> int:
    """Make the pages, look at them, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, help="further HTML reports to look at")
    parser.add_argument("--axe", type=Path, help="axe.min.js that is here already")
    options = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        print("accessibility: no Chromium found; install one: apt install chromium", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        try:
            axe = (options.axe or axe_from_npm(Path(folder))).read_text(encoding="utf-8")
        except (OSError, subprocess.SubprocessError) as problem:
            print(f"accessibility: no axe-core ({problem}); install npm, or give --axe FILE", file=sys.stderr)
            return 2
        session = Session.load(SESSION)
        page = Path(folder) / "report.html"
        page.write_text(report_page(session, None, finding_of(session)), encoding="utf-8")
        found = check({"report": page, **{entry.name: entry for entry in options.pages}}, axe, chromium)
    for where, violation in found:
        print(f"{violation['impact']}: {violation['id']} ({violation['help']}), {where}")
        for node in violation["nodes"][:3]:
            print(f"    {node}")
    counts = Counter(violation["impact"] for _, violation in found)
    print(", ".join(f"{counts[impact]} {impact}" for impact in ("minor", "moderate", *GRAVE)))
    return int(any(counts[impact] for impact in GRAVE))


if __name__ == "__main__":
    sys.exit(main())
