"""Do what a newcomer does: in an empty environment, run every command and every block of code of README.md, as written.

    python tests/as_written.py [--only TEXT] [--make] [--keep FOLDER]

The last commit is cloned, an environment is made for it, and the blocks run one after the other in the clone. What
calls make has an environment of its own and is left out, unless asked for with --make. Needs a network (several GB) and
about 20 minutes on 2 cores; no part of the test suite.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = "first-machine"
"""What a command names that is for several machines."""

FINDINGS = 'autotrain() { command autotrain "$@" || { code=$?; [ "$1 $code" = "doctor 3" ]; }; }\n'
"""What shells are given first: a doctor that finds something on this machine (exit code 3) does what README says."""

FENCE = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[int, str, str]]:
    """Return line, language and text of every block that can be run."""
    text = (ROOT / "README.md").read_text()
    return [(text.count("\n", 0, entry.start()) + 2, entry[1], entry[2]) for entry in FENCE.finditer(text)]


def without_make(text: str) -> str:
    """Return the lines that do not call make."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("make"))


def run(language: str, text: str, *, clone: Path, path: str) -> int:
    """Run a block in the clone, with what the environment brings; return the exit code."""
    file = clone / f"block.{'py' if language == 'python' else 'sh'}"
    file.write_text(text if language == "python" else FINDINGS + text)
    command = ["python", file.name] if language == "python" else ["bash", "-eu", file.name]
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    try:
        return subprocess.run(["env", *command], cwd=clone, env={**own, "PATH": path}, check=False).returncode
    finally:
        file.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="blocks that hold this text, and what installs")
    parser.add_argument("--make", action="store_true", help="commands of make too")
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it; a temporary one otherwise")
    options = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        clone = folder / "autotrain"
        if not clone.exists():
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
            venv.create(folder / "environment", with_pip=True)
        path = f"{folder / 'environment' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        for line, language, whole in blocks():
            text = whole if options.make else without_make(whole)
            if ELSEWHERE in text:
                print(f"\n=== README.md:{line}: left out, it needs another machine")
                continue
            if not text.strip() or (options.only not in text and "pip install" not in text):
                continue
            print(f"\n=== README.md:{line}\n{text}", flush=True)
            started = perf_counter()
            code = run(language, text, clone=clone, path=path)
            print(f"=== exit code {code} after {perf_counter() - started:.0f} s", flush=True)
            if code:
                failed.append(line)
    print(f"\n{'failed: README.md:' + ', '.join(map(str, failed)) if failed else 'all blocks ran as written'}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
