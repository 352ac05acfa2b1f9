"""``autotrain report``: a stored session as a page that opens in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autotrain.cli.files import check_writable


def report(
    session: Annotated[
        Path, typer.Argument(metavar="SESSION", help="What `autotrain probe --session` or --json wrote.")
    ],
    plan: Annotated[
        Path | None, typer.Option(help="The plan to show; made anew from the session without it.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write the page.")] = Path("report.html"),
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.", show_default=False)] = False,
) -> None:
    """Write a session as one HTML page, which needs nothing from outside and opens offline.

    Nothing is measured: the page is a function of the session.
    """
    del debug  # looked for by whoever runs the command
    check_writable(out, "--out")
    from autotrain.plan.plan import Plan
    from autotrain.report.html.page import save_report
    from autotrain.report.html.source import read_probe
    from autotrain.search.probe import finding_of

    found, stored = read_probe(session)
    given = Plan.load(plan) if plan is not None else stored
    replaced = out.exists()
    save_report(out, found, given, finding_of(found))
    print(f"{'Replaced' if replaced else 'Wrote'} {out}. Open it in a browser.")
