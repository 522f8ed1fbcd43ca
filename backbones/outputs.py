"""Outputs of a model: vectors of its own, and means over cells of its maps or of their changes.

    cls, patch_mean, ...  vectors of the model's own
    gridN                 where things are: means of a map over N x N cells
    motionN, motion       what moved: the same of |x_t - x_(t-1)| of successive maps; motion1
    grid4+motion4         several, one after the other

A map is what a model has at each place of a frame, or of a tubelet. Differences are taken between
maps, before pooling: those of pooled vectors show little of what moved. They make one step fewer,
and beside them every other output begins with the second step, so that a step is of one moment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from backbones.errors import BackboneError, BackboneValueError

if TYPE_CHECKING:
    import torch

MAPS = "maps"  # what `encode` calls them, next to the names of vectors
GRID = (
    "means over N x N cells, as of adaptive average pooling; "
    "cell after cell, row by row, all channels of each"
)
MOTION = (
    "gridN of the absolute differences of successive maps, in float32; "
    "beside it, other outputs begin with the second step"
)


@dataclass(frozen=True, kw_only=True)
class Maps:
    """The maps that a model has, one a step.

    Attributes:
        of: which layer or tokens, in words: part of the fingerprint.
        height: places from top to bottom.
        width: places from left to right.
        channels: numbers at each place.
    """

    of: str
    height: int
    width: int
    channels: int


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What outputs a model has to choose from.

    Attributes:
        vectors: name -> numbers, the usual one first.
        maps: what can be pooled, if there is something.
    """

    vectors: Mapping[str, int]
    maps: Maps | None = None

    @property
    def names(self) -> list[str]:
        """What can be chosen, the usual one first; N stands for a number."""
        return [*self.vectors, *(["gridN", "motionN"] if self.maps else [])]

    @property
    def most_cells(self) -> int | None:
        """The largest N of `gridN` and `motionN`; None without maps."""
        return min(self.maps.height, self.maps.width) if self.maps else None

    def choose(self, backbone: str, name: str | None) -> Output:
        """Return the output of a name; None is the usual one.

        Args:
            backbone: its name, for errors.
            name: a vector, `gridN`, `motionN` or `motion`, or several of them joined by `+`.

        Raises:
            BackboneValueError: an unknown name (the sentence lists the known ones), more cells than
                the maps have, or one output twice.
        """
        names = (next(iter(self.vectors)) if name is None else name).split("+")
        parts = [self._part(backbone, part) for part in names]
        for number, part in enumerate(parts):
            if part in parts[:number]:
                raise BackboneValueError(f"output {name!r} has {part.name} twice")
        pooled = any(part.cells for part in parts)
        return Output(parts=tuple(parts), maps=self.maps if pooled else None)

    def _part(self, backbone: str, name: str) -> Part:
        if name in self.vectors:
            return Part(name=name, dim=self.vectors[name])
        pooled = re.fullmatch(r"(grid|motion)([0-9]{0,9})", name)
        if pooled is None or pooled[0] == "grid":
            known = ", ".join(self.names)
            sums = f" (N up to {self.most_cells}), or several joined by +" if self.maps else ""
            raise BackboneValueError(f"no output {name!r}: choose one of {known}{sums}")
        kind, cells = pooled[1], int(pooled[2] or 1)
        most = self.most_cells
        if self.maps is None or most is None:
            raise BackboneValueError(
                f"{backbone} gives vectors alone, no maps that {name} could pool; "
                f"choose from {', '.join(self.vectors)}"
            )
        if not 1 <= cells <= most:
            raise BackboneValueError(
                f"{name} has {cells} x {cells} cells, and the maps of {backbone} have "
                f"{self.maps.height} x {self.maps.width} places: take {kind}1 to {kind}{most}"
            )
        return Part(
            name=f"{kind}{cells}",
            dim=cells * cells * self.maps.channels,
            cells=cells,
            motion=kind == "motion",
        )


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of the outputs that an output is made of.

    Attributes:
        name: as the fingerprint has it.
        dim: numbers a step.
        cells: along each side of a map; 0 for a vector.
        motion: whether it is of the differences of maps.
    """

    name: str
    dim: int
    cells: int = 0
    motion: bool = False


@dataclass(frozen=True, kw_only=True)
class Output:
    """What the features of a backbone are: the parts, one after the other.

    Attributes:
        parts: at least one.
        maps: which are pooled, if some are.
    """

    parts: tuple[Part, ...]
    maps: Maps | None = None

    @property
    def name(self) -> str:
        """The names of the parts, joined by `+`."""
        return "+".join(part.name for part in self.parts)

    @property
    def dim(self) -> int:
        """Numbers a step."""
        return sum(part.dim for part in self.parts)

    @property
    def motion(self) -> bool:
        """Whether differences of maps are among it, which make one step fewer."""
        return any(part.motion for part in self.parts)

    @property
    def needed(self) -> list[str]:
        """What `encode` must give: names of vectors, and `MAPS`."""
        vectors = [part.name for part in self.parts if not part.cells]
        return [*vectors, *([MAPS] if self.maps else [])]

    def describe(self) -> dict[str, Any]:
        """Return what pooling adds to a fingerprint; nothing for vectors."""
        if self.maps is None:
            return {}
        kinds = {part.motion for part in self.parts if part.cells}
        definitions = {"grid": GRID, **({"motion": MOTION} if True in kinds else {})}
        return {"maps": asdict(self.maps), "pooling": definitions}

    def pool(self, encoded: Mapping[str, torch.Tensor]) -> PooledSteps:
        """Return the parts of some successive steps of clips.

        Args:
            encoded: what is `needed`: vectors (B, t, dim), maps (B, t, height, width, channels).

        Raises:
            BackboneError: the maps have another shape than they should.
        """
        sources = {}
        if self.maps is not None:
            maps = encoded[MAPS].float()
            expected = (self.maps.height, self.maps.width, self.maps.channels)
            if maps.shape[2:] != expected:
                raise BackboneError(
                    f"the maps of this model are {tuple(maps.shape[2:])}, and not {expected}"
                )
            sources[False] = maps
            if self.motion:
                sources[True] = (maps[:, 1:] - maps[:, :-1]).abs_()
        rows = [
            cell_means(sources[part.motion], part.cells) if part.cells else encoded[part.name]
            for part in self.parts
        ]
        rows = [found.float().cpu() for found in rows]
        if not self.motion:
            return PooledSteps(rows)
        return PooledSteps(rows, first=maps[:, 0].cpu().clone(), last=maps[:, -1].cpu().clone())

    def join(self, pieces: Iterable[PooledSteps]) -> torch.Tensor:
        """Return the features (B, steps, dim) of clips from the pieces that follow one another."""
        import torch

        rows: list[list[torch.Tensor]] = [[] for _ in self.parts]
        before: torch.Tensor | None = None
        for piece in pieces:
            between = None
            if before is not None and piece.first is not None:
                between = (piece.first - before).abs_()[:, None]
            for part, earlier, found in zip(self.parts, rows, piece.rows, strict=True):
                if part.motion and between is not None:
                    earlier.append(cell_means(between, part.cells))
                earlier.append(found)
            before = piece.last
        joined = [torch.cat(found, dim=1) for found in rows]
        if self.motion:
            joined = [
                steps if part.motion else steps[:, 1:]
                for part, steps in zip(self.parts, joined, strict=True)
            ]
        return torch.cat(joined, dim=2)


@dataclass(frozen=True)
class PooledSteps:
    """The parts of an output for t successive steps of clips.

    Attributes:
        rows: of each part: (B, t, dim), or (B, t - 1, dim) if it is of differences.
        first: the map (B, height, width, channels) of the first step, if there are differences.
        last: that of the last step.
    """

    rows: list[torch.Tensor]
    first: torch.Tensor | None = None
    last: torch.Tensor | None = None


def cell_means(maps: torch.Tensor, cells: int) -> torch.Tensor:
    """Return the means of maps over cells, the same to the bit in any batch on any threads.

    Args:
        maps: float32 (B, t, height, width, channels).
        cells: along each side.

    Returns:
        float32 (B, t, cells * cells * channels): cell after cell, row by row.
    """
    from torch.nn import functional

    images = maps.flatten(0, 1).permute(0, 3, 1, 2)  # (B * t, channels, height, width)
    if cells == 1:  # `adaptive_avg_pool2d` would sum in an order that depends on the batch
        means = functional.avg_pool2d(images, images.shape[2:])
    else:
        means = functional.adaptive_avg_pool2d(images, cells)
    return means.permute(0, 2, 3, 1).flatten(1).unflatten(0, maps.shape[:2])


def steps_of(frames: int, *, frames_per_step: int, frames_spanned: int) -> float:
    """Return how many steps so many frames give; a fraction where they do not fit.

    Args:
        frames: of a clip.
        frames_per_step: from the first frame of a step to that of the next.
        frames_spanned: frames that one step is of.
    """
    return (frames - frames_spanned) / frames_per_step + 1
