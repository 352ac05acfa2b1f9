"""Let loadtune search, as ``loadtune tune workload.py`` does with default options, charts left out."""

import json
import tempfile
from pathlib import Path
from time import perf_counter

import torch
from loadtune.cli import main
from loadtune.experiment import Trial, best_trial
from loadtune.knobs import Knobs
from training import answer


def search() -> None:
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.json"
        workload = Path(__file__).with_name("loadtune_workload.py")
        started = perf_counter()
        code = main(["tune", str(workload), "--no-plots", "--out", f"{folder}/report.md", "--save-raw", str(raw)])
        seconds = perf_counter() - started
        if code:
            raise SystemExit(f"loadtune tune: exit code {code}")
        seen = json.loads(raw.read_text()) if raw.exists() else {"baseline": {}, "trials": []}
    trials = [
        Trial(knobs=Knobs.from_dict(entry["knobs"]), reason=entry["reason"], result=entry["result"])
        for entry in seen["trials"]
    ]
    best = best_trial(trials)
    baseline = seen["baseline"].get("throughput", 0.0)
    if best is not None and best.throughput <= baseline:
        best = None
    answer(
        {
            "choice": {} if best is None else choice(best.knobs),
            "recommended": "keeps the default" if best is None else best.knobs.label(),
            "says": seen.get("narrative", ""),
            "seconds": seconds,
            "starts": 1 + len(trials),
            "saw": {
                "default": {"rate": baseline, "wait": seen["baseline"].get("data_wait_frac")},
                "cpu_percent": seen["baseline"].get("cpu_util_mean"),
                "trials": {
                    entry.knobs.label(): entry.throughput or (entry.result or {}).get("error") for entry in trials
                },
            },
        }
    )


def choice(knobs: Knobs) -> dict[str, object]:
    """Return what loadtune's own loop does with these knobs; the batch size is told, not applied."""
    dtype = "float16" if torch.cuda.is_available() else "bfloat16"
    return {
        "workers": knobs.num_workers,
        "prefetch": knobs.prefetch_factor,
        "persistent": knobs.persistent_workers,
        "pin": knobs.pin_memory,
        "non_blocking": knobs.non_blocking,
        "threads": knobs.num_threads,
        "amp": dtype if knobs.amp else "",
        "compile": "default" if knobs.compile else "",
    }


if __name__ == "__main__":
    search()
