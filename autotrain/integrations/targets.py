"""The targets there are: one file each, listed here."""

from __future__ import annotations

import json

from autotrain.errors import SettingsError, unknown
from autotrain.integrations.accelerate import Accelerate
from autotrain.integrations.composer import Composer
from autotrain.integrations.draft import Draft
from autotrain.integrations.lightning import Lightning
from autotrain.integrations.ray import Ray
from autotrain.integrations.target import Target
from autotrain.integrations.timm import Timm
from autotrain.integrations.transformers import Transformers
from autotrain.plan.plan import Plan


class Json(Target):
    """The whole plan, for programs; nothing is lost."""

    name, title = "json", "JSON"
    form = "Everything that the plan holds."
    comments = False

    def draft(self, plan: Plan) -> Draft:
        """Keep every setting under its own name."""
        draft = Draft(plan)
        for name, value in plan.settings.as_dict().items():
            draft.keep(name, "settings", **{name: value})
        return draft

    def body(self, draft: Draft) -> str:
        """Return the plan as JSON."""
        return json.dumps(draft.plan.as_dict(), indent=1, allow_nan=False) + "\n"


TARGETS: tuple[Target, ...] = (
    Lightning(),
    Accelerate(),
    Transformers(),
    Timm(),
    Composer(),
    Ray(),
    Json(),
)


def target(name: str) -> Target:
    """Return the target of a name.

    Raises:
        SettingsError: there is none.
    """
    for entry in TARGETS:
        if entry.name == name:
            return entry
    raise SettingsError(f"--to {name}: {unknown('library', name, (entry.name for entry in TARGETS))}")
