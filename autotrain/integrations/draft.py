"""The draft of an export: where every setting of a plan goes in another library, or why it is lost there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from autotrain.plan.evidence import Verdict
from autotrain.plan.plan import Plan
from autotrain.report.words import ratio_words
from autotrain.report.worth import value_text
from autotrain.settings import Settings, Value


class Fate(Enum):
    """What becomes of a setting in another library."""

    KEPT = "kept"
    """It is in the exported text."""

    BY_HAND = "by hand"
    """It takes a line in the user's own script, which is named."""

    LOST = "lost"
    """The library has nothing for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What becomes of one setting."""

    setting: str
    value: Value
    fate: Fate
    words: str
    """The library's own name for it, the line to write, or why it is lost and what comes nearest."""

    def __str__(self) -> str:
        return f"{self.setting} = {value_text(self.value)}: {self.words}"


class Draft:
    """Gathers the arguments that a library is given, and what becomes of every setting.

    Settings at their default that a library has no word for are nothing to lose, and are left out.

    Args:
        plan: what is exported.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.settings = plan.settings
        self.made = plan.provenance
        self.sections: dict[str, dict[str, Any]] = {}
        self.entries: list[Entry] = []

    def keep(self, setting: str, section: str, **arguments: Any) -> None:
        """Have a setting be some arguments of a section."""
        self.sections.setdefault(section, {}).update(arguments)
        names = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        self._note(setting, Fate.KEPT, f"{section}: {names}")

    def given(self, setting: str, words: str, *, default: bool = False) -> None:
        """Say that the library does by itself what a setting asks for; of one at its default only where that is odd."""
        if default or self.changed(setting):
            self._note(setting, Fate.KEPT, words)

    def by_hand(self, setting: str, words: str) -> None:
        """Say which line in a script a setting takes."""
        if self.changed(setting):
            self._note(setting, Fate.BY_HAND, words)

    def lose(self, setting: str, words: str, *, default: bool = False) -> None:
        """Say why a setting is lost; of one at its default only where the library has no such default."""
        if default or self.changed(setting):
            self._note(setting, Fate.LOST, words)

    def put(self, section: str, **arguments: Any) -> None:
        """Give a section arguments that are no setting of the plan."""
        self.sections.setdefault(section, {}).update(arguments)

    def changed(self, setting: str) -> bool:
        """Tell whether a setting differs from PyTorch's own default."""
        return setting in self.settings.changes(Settings())

    def of(self, fate: Fate) -> tuple[Entry, ...]:
        """Return the settings with a fate, in the order of declaration."""
        found = [entry for entry in self.entries if entry.fate is fate]
        return tuple(sorted(found, key=lambda entry: Settings.names().index(entry.setting)))

    def section(self, name: str) -> Mapping[str, Any]:
        """Return the arguments of a section."""
        return self.sections.get(name, {})

    @property
    def images_per_pass(self) -> int | None:
        """Images of one process that pass the model at once; None where the plan does not know its batch size."""
        if not self.made.batch_size:
            return None
        return max(1, self.made.batch_size // max(1, self.made.processes) // self.settings.micro_batches)

    def _note(self, setting: str, fate: Fate, words: str) -> None:
        value = getattr(self.settings, setting)
        self.entries.append(Entry(setting=setting, value=value, fate=fate, words=words))


def torch_loader(draft: Draft, section: str = "loader") -> None:
    """Express the input path as arguments of torch's DataLoader, which loads in processes and decodes nothing."""
    settings = draft.settings
    threads = settings.loader == "threads" and settings.workers > 0
    if threads:
        draft.lose("workers", "torch's DataLoader has worker processes only; how many of those pay was not measured")
    else:
        draft.keep("workers", section, num_workers=settings.workers)
        if settings.workers:
            draft.put(section, persistent_workers=True)
            draft.keep("prefetch", section, prefetch_factor=settings.prefetch)
    draft.keep("pinning", section, pin_memory=settings.pinning)
    if threads:
        draft.lose("loader", "torch's DataLoader has worker processes only")
    input_path(draft)


def input_path(draft: Draft) -> None:
    """Say what no other library's input path has."""
    settings = draft.settings
    draft.lose("decoder", DECODERS.get(settings.decoder, "a decoder of autotrain's own input path"))
    draft.lose("resize", "autotrain's own input path; nearest: torchvision.transforms.v2.Resize on uint8 tensors")
    draft.lose("cache", "autotrain's own input path; every epoch decodes anew, unless your dataset keeps images itself")
    draft.lose("placement", "autotrain's own input path; nearest: transforms of kornia.augmentation on the batch")
    if "augmentation" not in (entry.setting for entry in draft.entries):
        name = settings.augmentation
        draft.by_hand("augmentation", f"your dataset's transforms decide; policy '{name}' is about {POLICIES[name]}")


DECODERS = {
    "torchvision": "autotrain's own input path; nearest: ImageFolder(loader=torchvision.io.decode_image)",
    "simplejpeg": "autotrain's own input path; nearest: a dataset that calls simplejpeg.decode_jpeg, the same pixels",
    "simplejpeg_scaled": "autotrain's own input path; nearest: simplejpeg.decode_jpeg(min_height=, min_width=)",
    "pillow_draft": "autotrain's own input path; nearest: Image.draft('RGB', size) in your dataset before it decodes",
    "nvjpeg": "autotrain's own input path; nearest: torchvision.io.decode_jpeg(..., device='cuda')",
}
"""What comes nearest to a decoder."""

_CROP = "RandomResizedCrop(size), RandomHorizontalFlip()"
POLICIES = {
    "none": "Resize(size), CenterCrop(size)",
    "flip": "Resize(size), CenterCrop(size), RandomHorizontalFlip()",
    "crop": _CROP,
    "trivial": f"{_CROP}, TrivialAugmentWide()",
    "rand": f"{_CROP}, RandAugment(2, 9)",
    "autoaugment": f"{_CROP}, AutoAugment()",
    "augmix": f"{_CROP}, AugMix()",
}
"""What comes nearest to a policy in torchvision.transforms."""

TF32 = (
    'torch.backends.cuda.matmul.fp32_precision = "tf32"',
    'torch.backends.cudnn.conv.fp32_precision = "tf32"',
)
"""Lines that do what precision = tf32 does."""


def ddp_arguments(settings: Settings) -> dict[str, tuple[str, Any]]:
    """Return setting, and argument of DistributedDataParallel, of what differs from its defaults; the hook apart."""
    names = {
        "bucket_mib": "bucket_cap_mb",
        "gradient_views": "gradient_as_bucket_view",
        "static_graph": "static_graph",
    }
    changes = settings.changes(Settings())
    return {name: (argument, changes[name]) for name, argument in names.items() if name in changes}


def promise(plan: Plan, library: str) -> str:
    """Return what may be said about the speed of an exported plan: nothing but what was measured, and how."""
    ratio = plan.evidence.ratio
    if plan.evidence.verdict is Verdict.FASTER and ratio is not None:
        gained = f"{ratio_words(ratio)} the default's images/s was measured with autotrain's own loader and step"
        return f"{gained}. Under {library} nothing was measured: expect another number, and measure it."
    return f"Nothing was measured under {library}, and the plan itself was not proven to be faster than the default."
