"""Sessions and pages that the tests of the HTML report look at."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from unit.report.html.sessions import PAGES, earlier_session, inconclusive_session, rich_session

from autotrain.measure.session import Session


@pytest.fixture
def rich(told: Any) -> Session:
    """A session with something to say in every section."""
    return rich_session(told)


@pytest.fixture
def rich_page() -> str:
    return PAGES["rich"]()


@pytest.fixture
def inconclusive(told: Any) -> Session:
    """A session in which nothing beat the default."""
    return inconclusive_session(told)


@pytest.fixture
def earlier() -> Session:
    """A real session, as a version wrote it that knew fewer settings, no ranks and no schedule."""
    return earlier_session()


@pytest.fixture
def earlier_page() -> str:
    return PAGES["earlier"]()


@pytest.fixture
def probe_json(told: Any) -> Callable[[Session], str]:
    """A function that returns what ``autotrain probe --json`` writes of a session."""
    from autotrain.api import ProbeResult
    from autotrain.cli.probe import as_dict

    def write(session: Session) -> str:
        return json.dumps(as_dict(ProbeResult(plan=told.plan, session=session, finding=told.finding)), allow_nan=False)

    return write
