"""Checks of what is installed: image decoders, packages over each other, requirements, versions known to be slow."""

from __future__ import annotations

from collections.abc import Iterator

from autotrain.doctor.check import Check, Fine, NotDone, Outcome, Problem, Severity
from autotrain.doctor.facts import Facts
from autotrain.doctor.installed import Distribution, Installed
from autotrain.installation import RIVAL, reinstallation

SAME_FILES = (
    ("PIL", ("pillow", "pillow-simd", "pil")),
    ("cv2", ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")),
)
"""Import name, and distributions that bring it: installed into one folder, each overwrites the files of the other."""

TURBO = "https://libjpeg-turbo.org"
SIMD = "https://github.com/uploadcare/pillow-simd#pillow-simd"
PILLOW_INSTALL = "https://pillow.readthedocs.io/en/stable/installation/building-from-source.html"


def name_clash(facts: Facts) -> Outcome:
    """Look for other projects with a module named autotrain: one by its name, any by its files."""
    rival = facts.installed.find(RIVAL)
    names = dict.fromkeys([*([RIVAL] if rival is not None else []), *facts.namesakes])
    return [_clash(name, facts.installed.find(name)) for name in names] or Fine(
        fact="no other project with a module named autotrain"
    )


def _clash(name: str, found: Distribution | None) -> Problem:
    known = name == RIVAL  # which other commands know too
    words = name if found is None else f"{name} {found.version}"
    return Problem(
        severity=Severity.CRASH,
        what=f"{words} is installed too",
        evidence=f"{words} has a module named 'autotrain' as well, so each overwrites the other's files"
        f"{f'; it lies in {found.folder}' if found is not None else ''}",
        cost="every other command of autotrain stops; without that, parts of two programs would run as one"
        if known
        else "parts of two programs may run as one: whichever was installed last lies over the other",
        remedy="use an environment of its own for each, or, from your copy of autotrain's repository",
        command=" && ".join(reinstallation(name)),
        source="https://pypi.org/project/autotrain-advanced/" if known else "",
    )


def overwritten(facts: Facts) -> Outcome:
    """Look for distributions that lie over each other, and for one that is listed in two versions."""
    problems = [*_over_each_other(facts.installed), *_listed_twice(facts.installed)]
    return problems or Fine(fact=f"{len(facts.installed.distributions)} distributions, none over another")


def _over_each_other(found: Installed) -> Iterator[Problem]:
    for module, names in SAME_FILES:
        folders: dict[str, dict[str, str]] = {}
        for entry in found.distributions:
            if entry.name in names:
                folders.setdefault(entry.folder, {})[entry.name] = entry.version
        for folder, versions in folders.items():
            there = {name: versions[name] for name in names if name in versions}
            if len(there) < 2:
                continue
            told = " and ".join(f"{name} {version}" for name, version in there.items())
            kept = "pillow" if module == "PIL" else next(iter(there))
            also = " Pillow-SIMD belongs in a folder of its own: autotrain simd" if module == "PIL" else ""
            yield Problem(
                severity=Severity.CRASH,
                what=f"{' and '.join(there)} are installed over each other",
                evidence=f"{told} in {folder}; both bring the package {module}",
                cost="the files are a mixture of both: an import may fail, and which version decodes is chance",
                remedy=f"remove all, then install one again.{also}",
                command=f"pip uninstall -y {' '.join(there)} && pip install {kept}",
                source=SIMD if module == "PIL" else "https://pypi.org/project/opencv-python/",
            )


def _listed_twice(found: Installed) -> Iterator[Problem]:
    seen: dict[tuple[str, str], set[str]] = {}
    for entry in found.distributions:
        seen.setdefault((entry.folder, entry.name), set()).add(entry.version)
    for (folder, name), versions in seen.items():
        if len(versions) > 1:
            yield Problem(
                severity=Severity.CRASH,
                what=f"{name} is listed in {len(versions)} versions",
                evidence=f"{', '.join(sorted(versions))} in {folder}: an installation was broken off",
                cost="its files may be a mixture, and pip may take it for the wrong version",
                remedy="remove it as often as it is listed, then install it again",
                command=f"pip uninstall -y {name}; pip uninstall -y {name}; pip install {name}",
            )


def pillow(facts: Facts) -> Outcome:
    """Look whether Pillow works, and whether it decodes by libjpeg-turbo."""
    found = facts.pillow
    again = "pip install --force-reinstall --no-cache-dir pillow"
    if found.version is None or found.error is not None:
        return Problem(
            severity=Severity.CRASH,
            what=f"{found.name} cannot be used",
            evidence=found.error or "it is not there",
            cost="no image file can be opened",
            remedy="install it again",
            command=again,
            source=PILLOW_INSTALL,
        )
    if not found.jpeg:
        return Problem(
            severity=Severity.CRASH,
            what=f"{found.name} reads no JPEG files",
            evidence="it was built without libjpeg (PIL.features)",
            cost="JPEG files cannot be opened by Pillow",
            remedy="install a wheel, which has it",
            command=again,
            source=PILLOW_INSTALL,
        )
    copy = "no copy of Pillow-SIMD" if found.simd_copy is None else f"a copy of Pillow-SIMD {found.simd_copy}"
    copy += " from 'autotrain simd'"
    if found.turbo:
        return Fine(fact=f"{found.name} with libjpeg-turbo {found.turbo_version or ''}".rstrip() + f"; {copy}")
    seconds = facts.decode_times.pillow_s
    measured = "" if seconds is None else f"; measured: {1e3 * seconds:.1f} ms for a photograph of 400 by 533 pixels"
    return Problem(
        severity=Severity.SLOW,
        what=f"{found.name} decodes without libjpeg-turbo",
        evidence=f"PIL.features.check_feature('libjpeg_turbo') is False: it was built with a plain libjpeg; {copy}",
        cost=f"libjpeg-turbo's authors state 2 to 6 times the speed of libjpeg{measured}",
        remedy="install a wheel, which has it (conda: from conda-forge, with libjpeg-turbo)",
        command=again,
        source=TURBO,
    )


def simplejpeg(facts: Facts) -> Outcome:
    """Look whether simplejpeg can be used, and how much faster than Pillow it decodes."""
    missing = facts.simplejpeg_missing
    if missing is None:
        try:
            times = facts.decode_times
        except NotDone:
            return Fine(fact="simplejpeg can be used")
        if times.pillow_s is None or not times.simplejpeg_s:
            return Fine(fact="simplejpeg can be used")
        rate, ratio = 1 / times.simplejpeg_s, times.pillow_s / times.simplejpeg_s
        return Fine(fact=f"decodes {rate:,.0f} photographs of 400 by 533 pixels a second and core, {ratio:.1f}x Pillow")
    return Problem(
        severity=Severity.SLOW,
        what="simplejpeg cannot be used",
        evidence=missing,
        cost="autotrain's benchmark on 2 cores, crops of 64 px: 1.1 times Pillow's images/s with it, 2.2 times where "
        "large files are decoded at a fraction of their size",
        remedy="install it; wheels bring libjpeg-turbo along",
        command="pip install --force-reinstall simplejpeg",
        source="https://pypi.org/project/simplejpeg/",
    )


def requirements(facts: Facts) -> Outcome:
    """Compare the installed versions with those that autotrain requires."""
    if not facts.installed.requirements:
        raise NotDone("autotrain runs from a copy without metadata: pip install .")
    try:
        from packaging.requirements import Requirement
    except ImportError:
        raise NotDone("needs the package packaging to compare versions") from None
    wrong = []
    for line in facts.installed.requirements:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        found = facts.installed.find(wanted.name)
        if found is None:
            wrong.append((line, "not installed"))
        elif not wanted.specifier.contains(found.version, prereleases=True):
            wrong.append((line, f"{found.version} is installed"))
    if not wrong:
        return Fine(fact=f"{len(facts.installed.requirements)} requirements are met")
    return Problem(
        severity=Severity.CRASH,
        what=f"{len(wrong)} requirements of autotrain are not met",
        evidence="; ".join(f"{line}: {state}" for line, state in wrong),
        cost="what needs them fails, or does another thing than was tested",
        remedy="install them",
        command="pip install --upgrade " + " ".join(f"'{line}'" for line, _ in wrong),
    )


CHECKS = (
    Check(name="name-clash", look=name_clash),
    Check(name="overwritten", look=overwritten),
    Check(name="requirements", look=requirements),
    Check(name="pillow", look=pillow),
    Check(name="simplejpeg", look=simplejpeg),
)
