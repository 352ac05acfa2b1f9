"""Let fournex search, as ``frx tune --safe -- python train.py`` does with default options."""

import json
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import torch  # noqa: F401 (fournex imports it within the search, and imports are not counted)
from fournex.cli import main
from training import answer

SKIPPED = -3
"""Exit code by which fournex marks a candidate that it refused before a start."""


def search() -> None:
    script = Path(__file__).with_name("fournex_train.py")
    with tempfile.TemporaryDirectory() as folder:
        started = perf_counter()
        main(["tune", "--safe", "--out", folder, "--", sys.executable, str(script)])
        seconds = perf_counter() - started
        (path,) = Path(folder).glob("tune-*/autopilot_report.json")
        report = json.loads(path.read_text())
    winner = report["winner"]
    runs = [report["baseline"], *(entry for entry in report["trials"] if entry["exit_code"] != SKIPPED)]
    if report["baseline"]["exit_code"]:
        raise SystemExit(f"the default's run ended with exit code {report['baseline']['exit_code']}")
    answer(
        {
            "choice": {} if winner is None else choice(winner["env_vars"]),
            "recommended": "keeps the default" if winner is None else words(winner["env_vars"]),
            "says": f"default {report['baseline']['dominant_stall']}",
            "seconds": seconds,
            "starts": len(runs),
            "saw": {
                f"{entry['benchmark_stage']} {entry['label']}": entry["throughput_steps_per_sec"]
                or entry["guard_failures"]
                for entry in runs
            },
        }
    )


def choice(variables: dict[str, str]) -> dict[str, object]:
    """Return what fournex_train.py does under these variables."""
    workers = int(variables.get("FRX_NUM_WORKERS", "0"))
    return {
        "workers": workers,
        "prefetch": int(variables.get("FRX_PREFETCH_FACTOR", "2")) if workers else None,
        "persistent": workers > 0 and variables.get("FRX_PERSISTENT_WORKERS") == "true",
        "pin": variables.get("FRX_PIN_MEMORY") == "true",
    }


def words(variables: dict[str, str]) -> str:
    """Return the variables without the prefix that they share."""
    return ", ".join(f"{name.removeprefix('FRX_').lower()}={value}" for name, value in variables.items())


if __name__ == "__main__":
    search()
