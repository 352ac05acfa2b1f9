"""nvJPEG: workers hand over the files themselves, and the device decodes, crops and resizes the batch."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autotrain.augment.geometry import Window, resize_batch
from autotrain.decode.base import BatchError, Choose, Decoder, complete, too_large
from autotrain.decode.header import Header, jpeg_header
from autotrain.decode.resize import resize_window
from autotrain.decode.simplejpeg import Simplejpeg
from autotrain.decode.torchvision import RGB, image_operators

if TYPE_CHECKING:
    import torch

_PADDING = 2.0
"""Pixels of a padded group per pixel that is wanted, at most."""


class NvJpeg(Decoder):
    """Batches by ``pack`` in the worker and ``decode_on_device`` behind the transfer; single images by simplejpeg."""

    name, full, exact, batched = "nvjpeg", "simplejpeg", False, True

    plain = Simplejpeg.plain

    def unavailable(self) -> str | None:
        """Return None where torch sees a CUDA device, on which an image can be decoded."""
        import torch

        if not torch.cuda.is_available():
            return "nvJPEG needs a CUDA device"
        if not hasattr(image_operators(), "decode_jpegs_cuda"):
            return "this torchvision was built without nvJPEG, or has it no more"
        return _trial_problem()


@dataclass(slots=True, kw_only=True)
class Packed:
    """A batch of images in host memory: files that the device decodes, and pixels of the others."""

    size: int
    """Side that the images are resized to, in pixels."""

    files: torch.Tensor
    """uint8: the files one after the other."""

    offsets: tuple[int, ...]
    """Where each file begins in ``files``; and their end."""

    windows: tuple[Window, ...]
    """What is wanted of each file's image."""

    places: torch.Tensor
    """int64: which image of the batch each file is."""

    pixels: torch.Tensor
    """uint8 ``(k, channels, size, size)``: the images that were decoded here."""

    pixels_places: torch.Tensor
    """int64: which image of the batch each of those is."""

    def __len__(self) -> int:
        return len(self.places) + len(self.pixels_places)

    def pin_memory(self) -> Packed:
        """Move what is copied to the device to page-locked memory; called by torch's loader."""
        self.pixels = self.pixels.pin_memory()
        self.places, self.pixels_places = self.places.pin_memory(), self.pixels_places.pin_memory()
        return self


def pack(datas: Sequence[bytes], choices: Sequence[Choose], size: int, *, channels: int) -> Packed:
    """Put the files of a batch into one piece of memory; decode, crop and resize those that nvJPEG does not take.

    Args:
        datas: the files.
        choices: called once each, with height and width of their image.
        size: pixels, at least 1.
        channels: 1 for greyscale, 3 for RGB.

    Raises:
        BatchError: an image that is decoded here cannot be read.
    """
    import torch

    windows: dict[int, Window] = {}
    others = []
    for place, (data, choose) in enumerate(zip(datas, choices, strict=True)):
        header = jpeg_header(data)
        if header is not None and _for_device(header) and complete(data):
            windows[place] = choose(header.height, header.width)
        else:
            others.append(place)
    pixels = np.empty((len(others), size, size, channels), dtype=np.uint8)
    for row, place in enumerate(others):
        _decode_here(place, datas[place], choices[place], pixels[row])
    lengths = [len(datas[place]) for place in windows]
    return Packed(
        size=size,
        files=torch.frombuffer(bytearray(b"".join([datas[place] for place in windows]) or b"\0"), dtype=torch.uint8),
        offsets=(0, *np.cumsum(lengths, dtype=np.int64).tolist()),
        windows=tuple(windows.values()),
        places=torch.tensor(list(windows), dtype=torch.int64),
        pixels=torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
        pixels_places=torch.tensor(others, dtype=torch.int64),
    )


def decode_on_device(packed: Packed, device: torch.device) -> torch.Tensor:
    """Decode, crop and resize a batch on the device: uint8 ``(n, channels, size, size)``.

    On the CPU, libjpeg-turbo takes nvJPEG's place.

    Raises:
        BatchError: a file cannot be read.
    """
    import torch

    channels = packed.pixels.shape[1]
    batch = torch.empty((len(packed), channels, packed.size, packed.size), dtype=torch.uint8, device=device)
    if len(packed.pixels_places):
        batch.index_copy_(0, _sent(packed.pixels_places, device), _sent(packed.pixels, device))
    if len(packed.places):
        images = _decoded(packed, channels, device)
        found = groups(packed.windows)
        places = _sent(packed.places[[row for group in found for row in group]], device).split(list(map(len, found)))
        for group, chosen in zip(found, places, strict=True):
            batch.index_copy_(0, chosen, _resized(images, packed.windows, group, packed.size))
    return batch


def groups(windows: Sequence[Window]) -> list[list[int]]:
    """Return sets of windows that are alike enough in size to be padded to the largest of their set."""
    found: list[list[int]] = []
    tall = wide = area = 0
    for place in sorted(range(len(windows)), key=lambda place: windows[place][2:]):
        height, width = windows[place][2:]
        taller, wider, more = max(tall, height), max(wide, width), area + height * width
        if found and taller * wider * (len(found[-1]) + 1) <= _PADDING * more:
            found[-1].append(place)
            tall, wide, area = taller, wider, more
        else:
            found.append([place])
            tall, wide, area = height, width, height * width
    return found


def _for_device(header: Header) -> bool:
    """Return whether nvJPEG gives the picture that Pillow gives; of components that are RGB it would not."""
    return header.plain and not header.rgb and not too_large(header)


def _sent(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy to the device, on CUDA from page-locked memory, so that nothing waits."""
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def _decoded(packed: Packed, channels: int, device: torch.device) -> list[torch.Tensor]:
    """Return whole images, uint8 (channels, height, width), on the device."""
    ends = zip(packed.offsets, packed.offsets[1:], strict=False)
    files = [packed.files[start:end] for start, end in ends]
    decoded: list[torch.Tensor]
    try:
        if device.type == "cuda":
            decoded = _by_nvjpeg(files, device)
        else:
            decoded = [image_operators().decode_jpeg(file, RGB, False) for file in files]
    except RuntimeError:  # one of them is broken: Pillow says which, and how
        return [_decode_whole(packed, row, channels).to(device) for row in range(len(files))]
    return decoded if channels == 3 else [_grey(image) for image in decoded]


def _by_nvjpeg(files: list[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    """Decode files that lie in host memory; waits for the decoding, not for what the current stream has to do.

    torchvision decodes on a stream of its own, which waits for no other, into memory of the current stream
    (``decode_jpegs_cuda.cpp``). That memory may have been given back by code whose kernels are still to read it, such
    as those of the batch before. So the images get memory of a stream that has nothing else to do, which is not given
    out again before the current stream is through with it.
    """
    import torch

    if device.index is None:  # the decoder is made anew, and the old one never freed, when the device's name changes
        device = torch.device(device.type, torch.cuda.current_device())
    own, current = _stream(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(own):
        images: list[torch.Tensor] = image_operators().decode_jpegs_cuda(files, RGB, device)
    current.wait_stream(own)
    for image in images:
        image.record_stream(current)
    return images


@lru_cache(maxsize=16)
def _stream(device: torch.device) -> torch.cuda.Stream:
    import torch

    return torch.cuda.Stream(device)


@lru_cache(maxsize=1)
def _trial_problem() -> str | None:
    """Return why nvJPEG does not decode an image: builds of torchvision without it have its operator, too."""
    import torch

    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG")
    try:
        _by_nvjpeg([torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)], torch.device("cuda"))
    except RuntimeError as problem:
        return f"nvJPEG decodes nothing here: {str(problem).strip().partition(chr(10))[0]}"
    return None


def _grey(image: torch.Tensor) -> torch.Tensor:
    """Return one channel of three as Pillow does: the weights of ITU-R 601-2 in 16 bits."""
    import torch

    red, green, blue = image.to(torch.int32)
    grey: torch.Tensor = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    return grey.to(torch.uint8)[None]


def _decode_whole(packed: Packed, row: int, channels: int) -> torch.Tensor:
    import torch

    data = packed.files[packed.offsets[row] : packed.offsets[row + 1]].numpy().tobytes()
    try:
        pixels = np.array(Simplejpeg().decode(data, channels=channels).pixels)
    except Exception as problem:
        raise BatchError(int(packed.places[row]), problem) from problem
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels)).permute(2, 0, 1)


def _resized(images: list[torch.Tensor], windows: Sequence[Window], group: list[int], size: int) -> torch.Tensor:
    """Return windows of a group, cut out, padded to the largest and resized together; padding has no weight."""
    height, width = (max(windows[row][axis] for row in group) for axis in (2, 3))
    first = images[group[0]]
    padded = first.new_empty((len(group), first.shape[0], height, width))
    for place, row in enumerate(group):
        top, left, tall, wide = windows[row]
        padded[place, :, :tall, :wide] = images[row][:, top : top + tall, left : left + wide]
    inside = np.asarray([(0, 0, *windows[row][2:]) for row in group], dtype=np.int64)
    return resize_batch(padded, inside, size)


def _decode_here(place: int, data: bytes, choose: Choose, out: NDArray[np.uint8]) -> None:
    try:
        decoded = Simplejpeg().decode(data, channels=out.shape[2], choose=choose)
        resize_window(decoded.pixels, decoded.window, out.shape[0], out, kernel="torch")
    except Exception as problem:
        raise BatchError(place, problem) from problem
