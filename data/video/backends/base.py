"""The record of a decoder, and the devices that decoders know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from data.video.frames import FrameIndices, Frames
from data.video.pyav import DecodeSession

DEVICES = ("auto", "cpu", "cuda")

# (session, indices, device) -> uint8 (T, H, W, 3), RGB, rotated for display.
ReadFrames = Callable[[DecodeSession, FrameIndices, str], Frames]


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A decoder. Each file of this folder with a `BACKEND` adds one, under the file's name.

    Attributes:
        name: What `--decoder` calls it; the name of its file.
        read: Return the frames at `indices`, on one of `devices` (or `auto`). Raises `CannotAgree`
            where they would not be those of the reference, or where the decoder cannot be used.
            Import the decoder's package inside this function: other commands load the record too.
        versions: Return what a cache records about the decoder: `version`, and more where the
            pixels depend on more. Raises ImportError or RuntimeError where it is not installed.
        packages: Distributions that provide it; one of them has to be installed.
        devices: Where it decodes, of `cpu` and `cuda`.
        load_last: Whether its libraries break decoders that are loaded later; such a decoder comes
            last in `DECODERS`.
    """

    name: str
    read: ReadFrames
    versions: Callable[[], dict[str, Any]]
    packages: tuple[str, ...]
    devices: tuple[str, ...] = ("cpu",)
    load_last: bool = False
