"""Runs pushed to the Hugging Face Hub, and pulled from it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory

from backbones import downloads
from data.errors import HeliographError, InvalidValueError
from data.files import atomic_write
from pipeline.hub.addresses import SCHEME, HubAddress, fetch, require_repository, sentences
from pipeline.hub.card import PICTURE, model_card
from pipeline.hub.lexicon_picture import lexicon_picture
from pipeline.message import Lexicon, load_lexicon
from pipeline.report import Thumbnails, page_thumbnails
from pipeline.runs import PATTERNS, Run, copy_run, load_inputs, write_shared

CARD = "README.md"
MESSAGE = "Push a run of Heliograph"

Log = Callable[[str], None]


def prepare(
    run: Run | Path | str,
    repository: str,
    folder: Path,
    *,
    with_pictures: bool = False,
    with_ids: bool = False,
    clips: Sequence[Path] = (),
    log: Log | None = None,
) -> Run:
    """Write into an empty folder all that a push sends: the run's copy, the card, its picture.

    Args:
        run: The run, or its folder.
        repository: Where it goes, `user/name`.
        folder: Where all is written.
        with_pictures: Whether a clip is pictured with each symbol.
        with_ids: Whether clips and objects keep their names.
        clips: Where the videos are now, for pictures; by default where they were.
        log: Called with what is missing in the pictures.

    Returns:
        The copy.

    Raises:
        InvalidValueError: `repository` is no name of one.
        HeliographError: A file of the run is missing or damaged, there is no video to picture, or
            the folder is not empty. Nothing is left in it.
    """
    require_repository(repository)
    is_new = not folder.exists()
    if not is_new and (not folder.is_dir() or any(folder.iterdir())):
        raise HeliographError(f"{folder} is not an empty folder: choose another")
    run = Run.open(run)
    try:
        return _prepare(run, repository, folder, with_pictures, with_ids, clips, log)
    except BaseException:
        for path in folder.iterdir() if folder.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if is_new and folder.is_dir():
            folder.rmdir()
        raise


def _prepare(
    run: Run,
    repository: str,
    folder: Path,
    with_pictures: bool,
    with_ids: bool,
    clips: Sequence[Path],
    log: Log | None,
) -> Run:
    copy = write_shared(run, folder, with_ids=with_ids)
    lexicon = load_lexicon(copy) if copy.has_symbols and copy.has("messages.jsonl") else None
    if lexicon is not None:
        pictures = _pictures(run, lexicon, clips, log) if with_pictures else None
        atomic_write(folder / PICTURE, lexicon_picture(lexicon, pictures))
    card = model_card(
        copy,
        repository,
        lexicon,
        has_picture=lexicon is not None,
        names_clips=with_ids,
        shows_clips=lexicon is not None and with_pictures,
    )
    atomic_write(folder / CARD, card)
    return copy


def _pictures(run: Run, lexicon: Lexicon, clips: Sequence[Path], log: Log | None) -> Thumbnails:
    made = page_thumbnails(run, lexicon, load_inputs(run), clips, each=1, moves=False)
    if not made.number:
        raise HeliographError(f"{run.folder}: {' '.join(made.notes())}")
    for note in made.notes():
        if log is not None:
            log(note)
    return made


def push(
    run: Run | Path | str,
    repository: str,
    *,
    with_pictures: bool = False,
    with_ids: bool = False,
    clips: Sequence[Path] = (),
    private: bool = False,
    log: Log | None = None,
) -> str:
    """Send a copy of a run and its model card to the Hub, in one commit; make the repository.

    What an older push of a run has left there, and this one does not have, is deleted.

    Args:
        run: The run, or its folder.
        repository: Where it goes, `user/name`.
        with_pictures: As of `prepare`.
        with_ids: As of `prepare`.
        clips: As of `prepare`.
        private: Whether a repository that is made can be seen by its owner alone.
        log: As of `prepare`.

    Returns:
        The address of what was sent, with its commit.

    Raises:
        HeliographError: as `prepare`; nobody is logged in, there is no network, or the repository
            holds something else.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

    require_repository(repository)
    address = HubAddress(repository)
    if downloads.is_offline():
        raise HeliographError(f"{address} is not pushed: HF_HUB_OFFLINE is set; unset it")
    if get_token() is None:
        raise HeliographError(
            f"{address} is not pushed: nobody is logged in; log in with `hf auth login`, or set "
            "HF_TOKEN to a token that may write"
        )
    with TemporaryDirectory(prefix="heliograph-") as name, sentences(address):
        folder = Path(name)
        words = {"with_pictures": with_pictures, "with_ids": with_ids, "clips": clips, "log": log}
        prepare(run, repository, folder, **words)  # type: ignore[arg-type]
        server = downloads.endpoint()
        downloads.require_connection(server)
        api = HfApi(endpoint=server)
        api.create_repo(repository, private=private or None, exist_ok=True)
        there = set(api.list_repo_files(repository))
        _refuse_another(address, there)
        sent = {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.name.endswith("lock")
        }
        old = [name for name in sorted(there - set(sent)) if _is_of_a_run(name)]
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(name, path) for name, path in sent.items()),
            *(CommitOperationDelete(name) for name in old),
        ]
        commit = api.create_commit(repository, operations, commit_message=MESSAGE)
    return str(HubAddress(repository, commit.oid))


def _refuse_another(address: HubAddress, there: set[str]) -> None:
    """Raise HeliographError where a repository holds a model that is no run."""
    taken = sorted(name for name in there if name == CARD or _is_of_a_run(name))
    if taken and "manifest.json" not in there:
        raise HeliographError(
            f"{address} holds something else than a run, whose {taken[0]} would be replaced: "
            "choose another name"
        )


def _is_of_a_run(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in (*PATTERNS, PICTURE))


def pull(repository: str, out: Path, *, overwrite: bool = False) -> Run:
    """Make a run folder of a run on the Hub, checked by its manifest and screened as foreign.

    Args:
        repository: `user/name`, `user/name@revision`, or the same as an address.
        out: The run folder; its `metrics.json` records the commit.
        overwrite: Replace a run that is in the folder.

    Raises:
        InvalidValueError: It is no name of a repository.
        HeliographError: It cannot be had, or is no run.
    """
    text = repository if repository.startswith(SCHEME) else f"{SCHEME}{repository}"
    if HubAddress.parse(text).file:
        raise InvalidValueError(
            f"{repository} names a file: a run is a whole repository, user/name[@revision]"
        )
    fetched = fetch(text)
    return copy_run(fetched.path, out, pulled_from=fetched.address, overwrite=overwrite)
