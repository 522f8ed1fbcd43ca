"""Clips to a feature cache: decoding, backbone and writing overlap, and nothing done is lost.

    decoder processes -> shared memory -> pixels (uint8, small) -> batches across clips -> backbone
    -> features on the host -> batches -> shards, written by a thread

Frames are shrunk to the size that the backbone takes where the decoder left them, in one thread per
decoder, so that a full frame is never copied. Queues are short, so memory does not grow with the
number of clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import backbones
from backbones import Backbone, resolve_devices
from data.cache import (
    JoinedStore,
    LabelChanges,
    ShardStore,
    refuse_unshared,
    staged,
)
from data.clips import Clip, objects_of_videos, part_of, refuse_contradictions
from data.copies import naming_addresses
from data.cores import available_cores
from data.digests import DigestTable, digest_of
from data.errors import InvalidValueError
from data.files import Address, path_of
from data.listings import list_folders_of
from data.manifests import list_clips
from data.video import Limits, Sampling, decoder_record
from data.windows import Windows, video_of
from pipeline.cluster import Cluster
from pipeline.console import some_clips
from pipeline.extraction.actors import Actors
from pipeline.extraction.extractor import ExtractorSettings
from pipeline.extraction.hosts import DeviceHosts, Hosts, RayHosts
from pipeline.extraction.stages import ExtractionJournal, JobSource, made_with, run_stages
from pipeline.extraction.summary import ExtractionSummary

MAX_WORKERS = 16


def default_workers() -> int:
    """Return how many decoders to run: one per core of this process, 16 at most."""
    return min(available_cores(), MAX_WORKERS)


def extract(
    clips: Sequence[Clip] | Sequence[Path | str] | Path | str,
    out: Path | str,
    *,
    backbone: Backbone | Callable[..., Backbone] | str = "dinov2_vits14",
    sampling: Sampling | int = 8,
    windows: Windows | None = None,
    part: tuple[int, int] | None = None,
    decoder: str = "pyav",
    accept_damaged: bool = False,
    dtype: str = "float16",
    workers: int | None = None,
    batch: int | None = None,
    rehash: bool = False,
    join: bool = False,
    retry_failed: bool = False,
    repair: Mapping[str, str] | None = None,
    part_bytes: int | None = None,
    cluster: Cluster | None = None,
    devices: str | None = None,
    progress: Callable[[ExtractionSummary], None] | None = None,
) -> ExtractionSummary:
    """Add the features of clips to the cache `out`, which keeps those that it has.

    On a CPU the features do not depend, to the bit, on the number of its cores, on `workers` or on
    the order in which clips are done: every pass of the backbone has one thread. On a GPU every
    pass has `batch` clips, the last one filled up, so that the same holds as far as its kernels
    compute the clips of a batch independently; another `batch`, precision or GPU changes features
    by rounding. What a pass takes and the name of the GPU are recorded with the versions.

    Ctrl-C leaves a cache of what is done. In a repair it leaves the cache as it was, and what is
    done for the next repair.

    Args:
        clips: with distinct ids; or videos, folders and tables, as `list_clips` takes them.
        out: the `.h5` file; until it is written, shards are in `<out>.parts`. At an address
            (`s3://`, `gs://`, `hf://`) it is published at the end (`cache.staged`); several
            processes have their shards next to it (`s3://`, `gs://`).
        backbone: gives (steps, dim) per clip; or its name, as `backbones.load` takes it; or a
            function that loads it.
        sampling: its frames must make steps of the backbone; or so many frames over the clip.
        windows: how each clip is cut into clips of their own; None: it is not.
        part: (i, n), to take only the i-th of n contiguous parts of the clips, counted from 1.
            `cache.merge` of all the parts, in order, gives the cache of all clips. `out` may have
            none of the other parts.
        decoder: a key of `data.video.DECODERS`, or `torchcodec:cuda`, which decodes on the GPU;
            windows are read by the reference alone.
        accept_damaged: keep clips with damage that the decoder notices; otherwise they fail.
        dtype: of the features on disk.
        workers: processes that decode; None is `default_workers()`.
        batch: clips in one forward pass on a GPU; None is the backbone's `batch`.
        rehash: read the file of every clip; otherwise one whose path, size and time of change are
            as an earlier run recorded them is known by the hash that it had.
        join: whether other processes, on any hosts, extract the same clips into `out` at the same
            time: each takes some, and the last one to finish writes the cache.
        retry_failed: whether clips are tried again of which two decoders have died, and with `join`
            those at which other processes failed.
        repair: ids of clips whose features in `out` are damaged -> sha256 of the file that they
            were made from, empty where it is unknown; what is not damaged stays.
        part_bytes: features and thumbnails of a file at most: a larger cache becomes a folder of
            such parts. None: as the parts that are there, or 64 GB. Parts that are there stay, but
            for the last, and a file while nothing in it changes.
        cluster: of Ray, on whose nodes the clips are extracted; each actor there loads the backbone
            and has `workers` cores. Clips and `out` are in folders that all nodes share, or at
            addresses.
        devices: on which the clips are extracted: the name of one, `cuda:all` for every GPU of the
            machine, or several, parted by commas. Several have a process each, and share the
            workers; `backbone` is then called there, with its `device`. None: where it is loaded.
        progress: called after every clip, one call at a time, from several threads.

    Returns:
        What was done. A clip that fails, in decoding or in the backbone, is recorded there and in
        the cache.

    Raises:
        HeliographError: the clips or the backbone cannot be had; there is no such part; the
            cache was made with another backbone, sampling, decoder or dtype, or cannot be written;
            or one stretch of a file is two clips of different objects.
        OutOfMemoryError: the GPU or the machine has too little for one clip.
    """
    clips = _as_clips(clips)
    if not repair:
        refuse_contradictions(clips)
    objects = {} if windows is None else objects_of_videos(clips)
    all_clips = clips
    if part is not None:
        clips = part_of(clips, *part)
    if isinstance(sampling, int):
        sampling = Sampling(frames=sampling)
    if isinstance(backbone, str):
        backbone = partial(backbones.load, backbone)
    target = path_of(out)
    names = [] if devices is None else resolve_devices(devices)
    has_actors = cluster is not None or len(names) > 1
    if has_actors and isinstance(backbone, Backbone):
        raise InvalidValueError(
            "each actor loads the backbone: give its name, or a function that loads it"
        )
    if names and (cluster or isinstance(backbone, Backbone)):
        chosen = "Ray chooses the devices" if cluster else "the backbone has its device"
        raise InvalidValueError(f"{chosen}: leave `devices` out")
    if (join or has_actors) and repair:
        raise InvalidValueError("processes do not join to repair a cache")
    if has_actors and (windows or join):
        raise InvalidValueError(
            "actors share the clips themselves, and cut no windows: use `join` without them"
        )
    if join or has_actors:
        refuse_unshared(target)
    summary = ExtractionSummary(target, len(clips))
    with naming_addresses(), ExitStack() as stack:
        if isinstance(target, Address) and not (join or has_actors):
            target = stack.enter_context(staged(target))
        actors: Actors | None = None
        if has_actors:
            assert not isinstance(backbone, Backbone)
            shared = ExtractorSettings(
                sampling=sampling,
                decoder=decoder,
                accept_damaged=accept_damaged,
                dtype=dtype,
                batch=batch,
                rehash=rehash,
                retry_failed=retry_failed,
                limits=Limits.in_force(),
            )
            hosts: Hosts
            if cluster is not None:
                ray = stack.enter_context(cluster.connected())
                hosts = RayHosts(ray, backbone, shared, gpus=cluster.gpus, cores=workers)
            else:
                hosts = DeviceHosts(names, backbone, shared, cores=workers)
            actors = stack.enter_context(Actors(hosts, shared))
            made, shape = actors.describe()
        else:
            decoder_record(decoder)  # before a backbone is downloaded for nothing
            if not isinstance(backbone, Backbone):
                backbone = backbone(device=names[0]) if names else backbone()
            model = backbone
            made = made_with(model, sampling, decoder, batch)
            shape = model.steps(sampling.frames), model.dim
        store = stack.enter_context(
            JoinedStore(
                target,
                **made,
                retry_failed=retry_failed,
                windows=windows,
                part_bytes=part_bytes,
            )
            if join or actors
            else ShardStore(target, **made, repair=repair or (), part_bytes=part_bytes)
        )
        store.check_shape(shape, dtype)
        store.require_one_unit(clips)
        if part is not None:
            _refuse_other_parts(store, all_clips, clips, part)
        journal = ExtractionJournal(store, summary, progress)
        settings = {"sampling": sampling, "decoder": decoder, "accept_damaged": accept_damaged}
        source = JobSource(
            clips,
            journal,
            settings,
            repair or {},
            windows,
            objects,
            rehash=rehash or bool(repair),
            retry_failed=retry_failed or bool(repair),
        )
        if actors is not None and isinstance(store, JoinedStore):
            actors.run(store, clips, journal)
        else:
            if not (rehash or repair):
                list_folders_of(clip.path for clip in clips if store.sources.has(clip.path))
            run_stages(
                source,
                journal,
                model,
                sampling=sampling,
                dtype=dtype,
                workers=workers or default_workers(),
                batch=batch,
            )
        store.refresh()
        clips = source.clips()
        left = store.finish(clips, journal.note_known)
        if not (has_actors and summary.interrupted):  # then nobody is at them
            summary.left_to_others = len(left)
        whole = not ((repair or join) and summary.interrupted) and not summary.left_to_others
        if whole:  # otherwise clips still to come would be dropped
            had_clips = store.has_clips
            store.consolidate(clips)
            changes = store.changes or LabelChanges(
                unnamed=store.unnamed(clips) if had_clips else ()
            )
            summary.label_changes = changes.columns
            if not repair and any(clip.table_sha256 for clip in clips):
                summary.unnamed = changes.unnamed
            for clip, reason in store.contradictions.items():
                journal.withdraw(clip, reason)
            if others := source.cut_otherwise(store.clip_ids):
                summary.notes.append(
                    f"the cache also has {some_clips(others)}: windows of the same videos, that an "
                    "earlier run cut otherwise"
                )
            if store.object_note:
                summary.notes.append(store.object_note)
    return summary


def _refuse_other_parts(
    store: ShardStore, clips: Sequence[Clip], own: Sequence[Clip], part: tuple[int, int]
) -> None:
    """Raise InvalidValueError where a cache has clips of other parts, which would come first."""
    if not store.has_clips:
        return
    is_other = DigestTable([("other", "?")])
    for some, other in ((clips, True), (own, False)):
        for one in some:
            is_other[digest_of(one.id)] = (other,)
    known = chain(store.clip_ids, (clip for clip, _ in store.earlier_failures))
    for clip in known:
        if (True,) in (is_other.get(digest_of(name)) for name in (clip, video_of(clip))):
            number, count = part
            raise InvalidValueError(
                f"{store.output} has clips of other parts ({clip}): give part {number}/{count} a "
                "cache of its own, or leave the part out to go on with all clips"
            )


def _as_clips(clips: Sequence[Clip] | Sequence[Path | str] | Path | str) -> Sequence[Clip]:
    given: Sequence[Any] = [clips] if isinstance(clips, Path | str) else clips
    if not isinstance(given, list | tuple):
        given = list(given)
    return given if all(isinstance(clip, Clip) for clip in given) else list_clips(given)
