"""Checks the HTML report with axe-core in a headless Chromium: ``make accessibility``.

Which rules are broken, how badly and how often is printed for the pages that the browser tests look at too, in light
and dark, wide and narrow, unfolded. Exit code 1 where anything is serious or critical, 2 where it could not be looked
at. axe-core comes from npm, into a temporary folder, or from the file that the option names.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from browser import Browser, find_chromium

AXE = "axe-core@4.14.1"
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


def made_pages(folder: Path) -> dict[str, Path]:
    """Write the reports of the tests' sessions into a folder; return their files by name."""
    from unit.report.html.sessions import PAGES

    found = {}
    for name, make in PAGES.items():
        found[name] = folder / f"{name}.html"
        found[name].write_text(make(), encoding="utf-8")
    return found


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
    if importlib.util.find_spec("pytest") is None:  # the sessions are those of the tests
        print("accessibility: no pytest found; install it: pip install -e '.[dev]'", file=sys.stderr)
        return 2
    if chromium is None:
        print("accessibility: no Chromium found; install one: apt install chromium", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        try:
            axe = (options.axe or axe_from_npm(Path(folder))).read_text(encoding="utf-8")
        except (OSError, subprocess.SubprocessError) as problem:
            print(f"accessibility: no axe-core ({problem}); install npm, or give --axe FILE", file=sys.stderr)
            return 2
        pages = made_pages(Path(folder))
        found = check({**pages, **{entry.name: entry for entry in options.pages}}, axe, chromium)
    for where, violation in found:
        print(f"{violation['impact']}: {violation['id']} ({violation['help']}), {where}")
        for node in violation["nodes"][:3]:
            print(f"    {node}")
    counts = Counter(violation["impact"] for _, violation in found)
    print(", ".join(f"{counts[impact]} {impact}" for impact in ("minor", "moderate", *GRAVE)))
    return int(any(counts[impact] for impact in GRAVE))


if __name__ == "__main__":
    sys.exit(main())
