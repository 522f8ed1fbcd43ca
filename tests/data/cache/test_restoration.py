"""What is damaged outside the features of a cache, and how much of it comes back."""

import hashlib
import json
import shutil

import pytest
import xxhash

from data.cache import (
    CacheError,
    ShardStore,
    columns_of,
    ledger_path,
    load,
    read_ledger,
    read_metadata,
    restore,
    save,
    verify,
)
from data.cache.parts import INDEX, files_of_index
from data.cache.seal import COPY, USER_BLOCK
from tests.helpers.caches import MADE_WITH, clips, extract, features, full
from tests.helpers.version_1 import save_version_1


def flip(path, *places):
    """Turn a bit at each offset of a file, or in the first place where some bytes are."""
    content = bytearray(path.read_bytes())
    for place in places:
        offset = place if isinstance(place, int) else content.find(place)
        assert offset >= 0
        content[offset] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("places", [[20], [COPY + 1], [130, COPY + 140], [5, 30, COPY + 200]])
def test_the_seal_is_written_again_to_the_byte(tmp_path, places):
    path = full(tmp_path / "c.h5")
    sound = path.read_bytes()
    flip(path, *places)
    assert len(verify(path)) == 1
    (done,) = restore(path)
    assert "of its seal" in done
    assert "written again" in done
    assert path.read_bytes() == sound


@pytest.mark.parametrize(
    ("place", "row_hashes"),
    [(3, True), (30, True), (30, False), (100, True), (150, False), (USER_BLOCK - 1, False)],
)
def test_the_seal_of_version_1_is_written_again(tmp_path, place, row_hashes):
    path = save_version_1(features(), tmp_path / "c.h5", row_hashes=row_hashes)
    sound = path.read_bytes()
    flip(path, place)
    (problem,) = verify(path)
    if place in (3, 100, USER_BLOCK - 1):
        assert str(problem) == f"{path} is damaged in its seal"
        with pytest.raises(CacheError, match=f"heliograph cache verify --repair {path} "):
            load(path)
    assert len(restore(path)) == 1
    assert path.read_bytes() == sound


def test_a_seal_that_does_not_fit_the_bytes_is_not_made_up(tmp_path):
    path = save_version_1(features(), tmp_path / "c.h5")
    flip(path, 30, "é 5".encode())
    damaged = path.read_bytes()
    with pytest.raises(CacheError, match=r"shows what was there; move it away \(mv .*c\.h5"):
        restore(path)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("what", ["hash of a row", "hash of a block", "created", "identity"])
def test_what_the_identity_of_the_content_shows_to_be_sound(tmp_path, what):
    path = full(tmp_path / "c.h5")
    whole = load(path)
    places = {
        "hash of a row": hashlib.sha256(whole.features[3].tobytes()).hexdigest().encode(),
        "hash of a block": xxhash.xxh3_128_digest(whole.features.tobytes()),
        "created": whole.created.encode(),
        "identity": whole.content_sha256.encode(),
    }
    flip(path, places[what])
    assert "damaged outside its features" in str(verify(path)[0])
    (done,) = restore(path)
    assert done.endswith("the content that was written is there again")
    assert verify(path) == []
    assert load(path).content_sha256 == whole.content_sha256


@pytest.mark.parametrize("what", [b"fall/004.mp4", b"object 3", b"fall", "mass", "key", "source"])
def test_what_the_ledger_knows_comes_back(tmp_path, what):
    path = full(tmp_path / "c.h5")
    whole = load(path)
    places = {
        "mass": whole.labels["mass"].tobytes(),
        "key": whole.key[2].encode(),
        "source": whole.source_sha256[2].encode(),
    }
    flip(path, places.get(what, what))
    restore(path)
    assert verify(path) == []
    assert load(path).differences(whole) == []


def test_damaged_features_stay_where_they_are(tmp_path):
    path = full(tmp_path / "c.h5")
    whole = load(path)
    flip(path, b"fall/004.mp4", whole.features[2].tobytes())
    (done,) = restore(path)
    assert done.endswith("is there again; the features of 1 clip are damaged as well")
    assert [str(problem) for problem in verify(path)] == ["fall/002.mp4: its features are damaged"]
    assert columns_of(path).clip_id == whole.clip_id
    with pytest.raises(CacheError, match=r"fall/002\.mp4"):
        load(path)


@pytest.mark.parametrize("what", ["frames", "truncated", "structure"])
def test_what_nothing_shows_is_refused_with_what_to_do(tmp_path, what):
    path = full(tmp_path / "c.h5")
    if what == "frames":
        flip(path, load(path).pts_seconds[3].tobytes())
    elif what == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        flip(path, USER_BLOCK)
    damaged = path.read_bytes()
    with pytest.raises(CacheError, match=rf"move it away \(mv {path} {path}\.damaged\)"):
        restore(path)
    assert path.read_bytes() == damaged


def test_a_file_that_is_longer_is_called_so_and_mended(tmp_path):
    path = full(tmp_path / "c.h5")
    sound, whole = path.stat().st_size, load(path)
    path.write_bytes(path.read_bytes() + b"more")
    (problem,) = verify(path)
    said = f"{path} has {sound + 4} bytes, not {sound}: something was added to it"
    assert str(problem) == said
    assert len(restore(path)) == 1
    assert load(path).content_sha256 == whole.content_sha256
    path.write_bytes(path.read_bytes()[:-4])
    assert str(verify(path)[0]) == f"{path} has {sound - 4} bytes, not {sound}: truncated?"


@pytest.mark.parametrize("content", [b"", b"no cache"])
def test_a_file_of_which_nothing_is_left(tmp_path, content):
    path = tmp_path / "c.h5"
    path.write_bytes(content)
    said = rf"^{path} is not an HDF5 file; move it away \(mv {path} {path}\.damaged\), and make"
    with pytest.raises(CacheError, match=said):
        restore(path)


def test_in_a_folder_of_parts_seals_are_mended(tmp_path):
    folder = tmp_path / "c"
    save(features(), folder, clips_per_part=3)
    for part in files_of_index(folder):
        flip(part, 300)
    assert len(verify(folder)) == 3
    assert len(restore(folder)) == 3
    assert verify(folder) == []


class TestFolderOfParts:
    """Eleven clips in parts of three, made by an extraction, or seven of them without a ledger."""

    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.setattr("data.cache.parts.PART_BYTES", 100)
        return full(tmp_path / "c.h5")

    @pytest.mark.parametrize("number", [0, 1, 3])
    @pytest.mark.parametrize("what", ["name", "object", "created", "key", "two parts"])
    def test_parts_that_are_damaged_outside_their_features(self, folder, number, what):
        whole, parts = load(folder), files_of_index(folder)
        clip = load(parts[number])
        place = {"object": clip.object[1], "created": clip.created, "key": clip.key[1]}
        flip(parts[number], place.get(what, clip.clip_id[1]).encode())
        if what == "two parts":
            flip(parts[2], load(parts[2]).clip_id[0].encode())
        done = restore(folder)
        assert len(done) == (2 if what == "two parts" else 1)
        assert "the content that was written is there again" in done[0]
        assert verify(folder) == []
        assert load(folder).differences(whole) == []
        assert load(folder).content_sha256 == whole.content_sha256
        assert sorted(folder.iterdir()) == sorted([*files_of_index(folder), folder / INDEX])
        assert restore(folder) == []

    def test_a_part_of_which_features_are_damaged_as_well(self, folder):
        whole, part = load(folder), files_of_index(folder)[1]
        flip(part, whole.clip_id[3].encode(), whole.features[4].tobytes())
        (done,) = restore(folder)
        assert done.endswith("is there again; the features of 1 clip are damaged as well")
        (problem,) = verify(folder)
        part = files_of_index(folder)[1]
        assert str(problem) == f"{whole.clip_id[4]}: its features are damaged (in {part})"
        with pytest.raises(CacheError, match="damaged"):
            load(folder)
        assert columns_of(folder).clip_id == whole.clip_id

    @pytest.mark.parametrize("where", ["part", "index"])
    def test_killed_while_a_part_is_mended(self, folder, monkeypatch, where):
        whole, part = load(folder), files_of_index(folder)[1]
        flip(part, whole.clip_id[3].encode())
        problems = verify(folder)

        def killed(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            name = {"part": "write_rows", "index": "write_index"}[where]
            patch.setattr(f"data.cache.folder_restoration.{name}", killed)
            with pytest.raises(KeyboardInterrupt):
                restore(folder)
        assert verify(folder) == problems
        restore(folder)
        assert verify(folder) == []
        assert load(folder).differences(whole) == []

    @pytest.mark.parametrize("seed", range(30))
    def test_a_damaged_index_is_written_again_from_its_parts(self, folder, seed):
        """A bit anywhere: in a hash, a name, a number, or the marks of JSON."""
        sound = (folder / INDEX).read_bytes()
        place = 30 + seed * (len(sound) - 31) // 29
        flip(folder / INDEX, place)
        if verify(folder) == []:  # the case of a letter
            return
        assert "index.json" in restore(folder)[0]
        assert (folder / INDEX).read_bytes() == sound
        assert verify(folder) == []

    @pytest.mark.parametrize("what", ["half", "order", "swapped", "too few", "one more", "of all"])
    def test_the_identity_of_the_whole_shows_which_parts_in_which_order(self, folder, what):
        sound = (folder / INDEX).read_text()
        index = json.loads(sound)
        parts = index["parts"]
        if what == "order":
            parts.reverse()
        elif what == "swapped":
            parts[1], parts[3] = parts[3], parts[1]
        elif what == "too few":
            del parts[1]
        elif what == "one more":
            parts.append(self.stray(folder))
        elif what == "of all":
            index["content_sha256"] = "0" * 64
        text = sound[: len(sound) // 2] if what == "half" else json.dumps(index)
        (folder / INDEX).write_text(text)
        assert verify(folder)
        (done,) = restore(folder)
        assert done.startswith(f"{folder / INDEX} is damaged")
        assert ("which nothing proves" in done) == (what == "of all")
        assert (folder / INDEX).read_text() == sound
        assert verify(folder) == []

    @staticmethod
    def stray(folder) -> dict:
        """Return the entry of one more part: of clips that the cache does not have."""
        with ShardStore(folder.with_name("d.h5"), **MADE_WITH) as store:
            extract(store, clips(2, start=20))
            path = store.consolidate(clips(2, start=20))
        found = read_metadata(path)
        path.rename(folder / f"{found.content_sha256[:32]}.h5")
        return {
            "name": f"{found.content_sha256[:32]}.h5",
            "clips": 2,
            "rest_sha256": found.rest_sha256,
            "content_sha256": found.content_sha256,
        }

    @pytest.mark.parametrize("text", [None, "", "[]"])
    @pytest.mark.parametrize("order", ["names", "ledger", "table"])
    def test_an_index_of_which_nothing_is_left(self, folder, text, order):
        ids = load(folder).clip_id
        if order != "names":
            lines = ledger_path(folder).read_text().splitlines(keepends=True)
            backwards = load(folder).select(range(10, -1, -1))
            save(backwards, folder, clips_per_part=3)
            ids = load(folder).clip_id
            lines.sort(
                key=lambda line: [*ids, json.loads(line)["clip"]].index(json.loads(line)["clip"])
            )
            ledger_path(folder).write_text("".join(lines))
        sound = (folder / INDEX).read_text()
        if text is None:
            (folder / INDEX).unlink()
        else:
            (folder / INDEX).write_text(text)
        command = f"heliograph cache verify --repair {folder} saves"
        with pytest.raises(CacheError, match=rf"index\.json is (gone|damaged).*; {command}"):
            load(folder)
        with pytest.raises(CacheError, match=command):
            ShardStore(folder, **MADE_WITH)
        (problem, *_) = verify(folder)
        assert str(problem).startswith(f"{folder / INDEX} is ")
        (done,) = restore(folder, ids if order == "table" else ())
        how = {"names": "of the names of clips,", "table": "of --clips"}.get(
            order, "of the ledger,"
        )
        assert f"it was written again from 4 parts, in the order {how}" in done
        assert ("which nothing proves" in done) == (order != "table")
        assert load(folder).clip_id == ids
        assert (folder / INDEX).read_text() == sound
        assert verify(folder) == []

    def test_what_an_index_that_is_gone_did_not_name(self, folder):
        """A part of clips that have left the cache, and one of clips that another part has."""
        with ledger_path(folder).open("a") as file:
            file.write('{"clip": "fall/020.mp4", "outcome": "removed"}\n')
        stray = folder / self.stray(folder)["name"]
        (folder / INDEX).unlink()
        first, second = restore(folder)
        assert "from 4 parts" in first
        assert second == f"{stray} is no part of it: the ledger does not have its clips"
        part = files_of_index(folder)[1]
        shutil.copy(part, folder / f"{'0' * 32}.h5")
        (folder / INDEX).unlink()
        with pytest.raises(CacheError, match=r"have the same clips: move the older one away"):
            restore(folder)

    @pytest.mark.parametrize("kind", ["folder", "link", "empty"])
    def test_a_part_that_is_no_file_is_lost(self, folder, kind):
        part = files_of_index(folder)[1]
        part.unlink()
        if kind == "folder":
            part.mkdir()
        elif kind == "link":
            part.symlink_to(folder / "nowhere")
        else:
            part.touch()
        (problem,) = verify(folder)
        assert problem.lost.path == part
        assert restore(folder) == []
        assert verify(folder) == [problem]
        with pytest.raises(CacheError, match=f"heliograph cache verify --repair {folder} saves"):
            load(folder)

    def test_a_folder_in_place_of_the_index(self, folder):
        (folder / INDEX).unlink()
        (folder / INDEX).mkdir()
        way_out = f"remove it, and heliograph cache verify --repair {folder} makes it again"
        (problem,) = verify(folder)
        assert way_out in str(problem)

    def test_a_lost_part_does_not_keep_others_from_being_mended(self, folder):
        first, second, _, last = files_of_index(folder)
        flip(first, b"fall/001.mp4")
        flip(second, 300)
        last.unlink()
        assert len(restore(folder)) == 2
        (problem,) = verify(folder)
        assert str(problem) == f"{last} is gone, a part that index.json names"
        assert problem.lost.path == last


def test_a_sound_cache_and_an_interrupted_extraction_are_left_alone(tmp_path):
    path = full(tmp_path / "c.h5")
    before = path.stat()
    assert restore(path) == []
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    with ShardStore(tmp_path / "d.h5", **MADE_WITH) as store:
        extract(store, clips(2))
    assert restore(tmp_path / "d.h5") == []


@pytest.mark.parametrize("parted", [False, True])
def test_a_damaged_ledger_loses_its_damaged_lines(tmp_path, monkeypatch, parted):
    if parted:
        monkeypatch.setattr("data.cache.parts.PART_BYTES", 100)
    path = full(tmp_path / "c.h5")
    lines = ledger_path(path).read_text().splitlines(keepends=True)
    damaged = [*lines[:2], lines[2].replace("outcome", "outcame"), "no JSON\n", *lines[4:]]
    ledger_path(path).write_text("".join(damaged))
    said = f"{ledger_path(path)} is damaged in line 3"
    with pytest.raises(CacheError, match=f"{said}; heliograph cache verify --repair {path} saves"):
        read_ledger(path)
    assert [str(problem) for problem in verify(path)] == [f"{said} and 1 more"]
    (done,) = restore(path)
    assert done.startswith(f"{said} and 1 more: 2 lines left it, and with them where the videos")
    assert verify(path) == []
    assert ledger_path(path).read_text() == "".join([*lines[:2], *lines[4:]])
