import json
import math
import os
from pathlib import Path

import pytest

from data.clips import Clip, ClipError
from data.errors import HeliographError
from data.files import UnsafeFileError
from data.manifests import (
    DOUBTFUL_SUFFIXES,
    VIDEO_SUFFIXES,
    list_clips,
    read_manifest,
    write_manifest,
)
from data.video import VideoError, check_regular_file
from tests.helpers.planting import plant


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


class TestFolders:
    def test_video_files_below_sorted_with_relative_ids(self, tmp_path):
        touch(
            tmp_path / "b/Camera_1.mp4",
            tmp_path / "a/Camera_1.MP4",
            tmp_path / "a b.mov",
            tmp_path / "README.md",
            tmp_path / ".hidden.mp4",
            tmp_path / ".git/x.mp4",
            tmp_path / "manifest.csv",
        )
        clips = list_clips([tmp_path])
        assert [clip.id for clip in clips] == ["a b.mov", "a/Camera_1.MP4", "b/Camera_1.mp4"]
        assert all(clip.path.is_file() for clip in clips)

    def test_a_dangling_link_stays_in_so_that_it_is_named(self, tmp_path):
        os.symlink("nowhere.mp4", tmp_path / "link.mp4")
        assert [clip.id for clip in list_clips([tmp_path])] == ["link.mp4"]

    def test_a_link_to_its_own_folder_does_not_loop(self, tmp_path):
        touch(tmp_path / "a.mp4")
        os.symlink(tmp_path, tmp_path / "loop")
        assert len(list_clips([tmp_path])) == 1

    def test_linked_folders_give_their_clips_once(self, tmp_path):
        touch(tmp_path / "disk/cup/1.mp4", tmp_path / "set/2024/bowl/2.mp4")
        os.symlink(tmp_path / "disk/cup", tmp_path / "set/cup")
        os.symlink("2024", tmp_path / "set/a_link_to_it")
        assert [clip.id for clip in list_clips([tmp_path / "set"])] == [
            "2024/bowl/2.mp4",
            "cup/1.mp4",
        ]

    def test_a_folder_that_cannot_be_read_is_named(self, tmp_path, monkeypatch):
        touch(tmp_path / "a/1.mp4", tmp_path / "b/2.mp4")
        scandir = os.scandir

        def refused(path):
            if str(path).endswith("/b"):
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refused)
        with pytest.raises(HeliographError, match=r"/b cannot be read: Permission denied"):
            list_clips([tmp_path])

    def test_a_folder_without_videos_says_so(self, tmp_path):
        touch(tmp_path / "README.md")
        with pytest.raises(ClipError, match=r"holds no video files \(.*\.mp4"):
            list_clips([tmp_path])

    def test_files_that_may_be_videos_are_counted(self, tmp_path, caplog):
        caplog.set_level("INFO")
        touch(*(tmp_path / name for name in ("a.mp4", "b/c.GIF", "d.ogg", "e.gif", ".f.gif")))
        assert [clip.id for clip in list_clips([tmp_path])] == ["a.mp4"]
        assert caplog.messages == [
            f"note: {tmp_path}: files that may be videos are not taken (2 .gif, 1 .ogg): name them "
            "if they are"
        ]
        assert [clip.id for clip in list_clips([tmp_path / "b/c.GIF"])] == ["c.GIF"]
        with pytest.raises(ClipError, match=r"b holds no video files .*not taken \(1 \.gif\)"):
            list_clips([tmp_path / "b"])

    def test_every_name_of_a_format_that_is_read_is_listed_or_counted(self):
        """What FFmpeg calls such files, but for sound, subtitles, stills and unknown codecs."""
        av = pytest.importorskip("av")
        from data.video.pyav.sniffing import FORMATS

        others = {"avif", "heic", "heif", "m4a", "m4b", "isma", "ism", "psp"}
        others |= {"mka", "mks", "mpo", "evc"}
        named = {"3gp", "mts", "vob", "mxf", "dv", "y4m", "f4v", "rm", "264"}
        for name in FORMATS:
            named |= set(av.format.ContainerFormat(name, "r").extensions)
        listed = {suffix[1:] for suffix in (*VIDEO_SUFFIXES, *DOUBTFUL_SUFFIXES)}
        assert named - others <= listed

    @pytest.mark.parametrize("broken", ["a\nb.mp4", "a\rb.mp4"])
    def test_a_line_break_in_a_name_is_escaped_in_its_id(self, tmp_path, broken):
        touch(tmp_path / broken, tmp_path / "c.mp4")
        write(tmp_path / "m.jsonl", json.dumps({"path": broken}))
        escaped = broken.replace("\n", "\\n").replace("\r", "\\r")
        for given in ([tmp_path], [tmp_path / "c.mp4", tmp_path / broken], [tmp_path / "m.jsonl"]):
            clips = {clip.id: clip.path for clip in list_clips(given)}
            assert clips[escaped] == tmp_path / broken

    def test_a_folder_with_the_name_of_a_video_is_one_clip_that_fails(self, tmp_path):
        touch(tmp_path / "a.mp4", tmp_path / "disc.mp4/README", tmp_path / "full.mov/1.mp4")
        given = sorted(tmp_path.iterdir())
        assert [clip.id for clip in list_clips(given)] == ["a.mp4", "disc.mp4", "1.mp4"]
        with pytest.raises(VideoError, match=r"disc\.mp4: a folder, not a video file"):
            check_regular_file(list_clips(given)[1].path)

    def test_the_shared_videos_without_their_readme(self, shared):
        ids = [clip.id for clip in list_clips([shared / "videos"])]
        assert len(ids) == 16
        assert "README.md" not in ids
        assert ids == sorted(ids)


class TestFiles:
    def test_a_name_gets_the_parents_that_tell_it_apart(self, tmp_path):
        paths = [tmp_path / name for name in ("a/01/C.mp4", "a/02/C.mp4", "b/02/C.mp4", "z.mp4")]
        touch(*paths)
        assert [c.id for c in list_clips(paths)] == [
            "01/C.mp4",
            "a/02/C.mp4",
            "b/02/C.mp4",
            "z.mp4",
        ]

    def test_a_file_without_a_videos_name_is_kept(self, tmp_path):
        touch(tmp_path / "movie")
        assert [clip.id for clip in list_clips([tmp_path / "movie"])] == ["movie"]

    def test_a_leading_dash_and_other_scripts(self, tmp_path):
        touch(tmp_path / "-x.mp4", tmp_path / "видео один.mp4")
        assert [c.id for c in list_clips([tmp_path])] == ["-x.mp4", "видео один.mp4"]

    def test_the_same_file_twice_is_refused(self, tmp_path):
        touch(tmp_path / "a.mp4")
        with pytest.raises(ClipError, match=r"two clips have the id .*a\.mp4 and .*a\.mp4"):
            list_clips([tmp_path / "a.mp4", tmp_path / "a.mp4"])

    def test_what_does_not_exist(self, tmp_path):
        with pytest.raises(ClipError, match=r"gone\.mp4 does not exist"):
            list_clips([tmp_path / "gone.mp4"])

    @pytest.mark.parametrize(
        ("given", "hint"),
        [
            ("ftp://example.org/a.mp4", "it looks like an address; download it"),
            ("RTSP://camera/a.mp4", "it looks like an address"),
            (r"C:\f\x.mp4", "it looks like a path of Windows; in WSL it is /mnt/c/f/x.mp4"),
            (r"f\x.mp4", "write it with slashes, f/x.mp4"),
            (r"f\gone.mp4", "write it with slashes, f/gone.mp4"),
        ],
    )
    def test_what_is_meant_is_said(self, given, hint, tmp_path, monkeypatch):
        touch(tmp_path / "f/x.mp4")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ClipError, match=hint):
            list_clips([given])

    def test_the_order_is_that_of_the_arguments(self, tmp_path):
        touch(tmp_path / "f/x.mp4", tmp_path / "z.mp4", tmp_path / "a.mp4")
        given = [tmp_path / "z.mp4", tmp_path / "f", tmp_path / "a.mp4"]
        assert [clip.id for clip in list_clips(given)] == ["z.mp4", "x.mp4", "a.mp4"]

    def test_names_that_are_in_two_folders_get_their_folders(self, tmp_path):
        touch(*(tmp_path / name for name in ("f/x.mp4", "f/a/z.mp4", "g/x.mp4", "g/a/z.mp4")))
        clips = list_clips([tmp_path / "f", tmp_path / "g", tmp_path / "g" / "a"])
        assert [clip.id for clip in clips] == [
            "f/a/z.mp4",
            "f/x.mp4",
            "g/a/z.mp4",
            "g/x.mp4",
            "z.mp4",
        ]
        assert [clip.object for clip in clips] == [clip.id for clip in clips]
        assert [clip.id for clip in list_clips([tmp_path / "f" / "x.mp4", tmp_path / "g"])] == [
            "f/x.mp4", "a/z.mp4", "g/x.mp4",
        ]  # fmt: skip

    def test_and_so_do_those_of_two_tables(self, tmp_path):
        for folder in "fg":
            touch(tmp_path / folder / "x.mp4")
            write(tmp_path / folder / "m.csv", "path,object", "x.mp4,ball")
        clips = list_clips([tmp_path / "f/m.csv", tmp_path / "g/m.csv"])
        assert [(clip.id, clip.object) for clip in clips] == [
            ("f/x.mp4", "ball"),
            ("g/x.mp4", "ball"),
        ]

    def test_stretches_of_one_video_are_clips_of_one_object(self, tmp_path):
        rows = ("path,start,end", "x.mp4,0,2.5", "x.mp4,2.5,4", "x.mp4,7,", "y.mp4,1,2")
        for folder in "fg":
            touch(tmp_path / folder / "x.mp4", tmp_path / folder / "y.mp4")
            write(tmp_path / folder / "m.csv", *rows)
        clips = list_clips([tmp_path / "f/m.csv"])
        assert [(clip.id, clip.object) for clip in clips] == [
            ("x.mp4#000000-000002.5", "x.mp4"),
            ("x.mp4#000002.5-000004", "x.mp4"),
            ("x.mp4#000007-", "x.mp4"),
            ("y.mp4", "y.mp4"),
        ]
        both = list_clips([tmp_path / "f/m.csv", tmp_path / "g/m.csv"])
        assert [(clip.id, clip.object) for clip in both[:3:2]] == [
            ("f/x.mp4#000000-000002.5", "f/x.mp4"),
            ("f/x.mp4#000007-", "f/x.mp4"),
        ]
        assert len({clip.object for clip in both}) == 4
        write(tmp_path / "f/m.csv", "path,start,end,object", "x.mp4,0,2,a", "x.mp4,2,4,b")
        assert [clip.object for clip in list_clips([tmp_path / "f/m.csv"])] == ["a", "b"]

    def test_the_same_stretch_twice_is_refused(self, tmp_path):
        touch(tmp_path / "x.mp4")
        write(tmp_path / "m.csv", "path,start,end", "x.mp4,0,2", "x.mp4,0,2")
        with pytest.raises(ClipError, match=r"two clips have the id 'x.mp4#000000-000002'"):
            list_clips([tmp_path / "m.csv"])

    def test_an_id_that_a_table_gives_is_kept(self, tmp_path):
        touch(tmp_path / "f/x.mp4", tmp_path / "g/x.mp4")
        for folder in "fg":
            write(tmp_path / folder / "m.csv", "path,id", "x.mp4,one")
        with pytest.raises(ClipError, match=r"two clips have the id 'one': .*f/x\.mp4 and .*g/x"):
            list_clips([tmp_path / "f/m.csv", tmp_path / "g/m.csv"])


class TestManifests:
    def test_jsonl(self, tmp_path):
        path = write(
            tmp_path / "m.jsonl",
            '{"id": "one", "path": "v/1.mp4", "start": 1, "end": 2.5, "object": "o", '
            '"scenario": "fall", "labels": {"mass": 3, "size": null}}',
            "",
            '{"path": "v/2.mp4"}',
        )
        one, two = list_clips([path])
        assert one.path == tmp_path / "v/1.mp4"
        assert (one.id, one.start, one.end, one.object) == ("one", 1.0, 2.5, "o")
        assert one.labels["mass"] == 3
        assert math.isnan(one.labels["size"])
        assert (two.id, two.object, two.labels) == ("v/2.mp4", "v/2.mp4", {})

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("{", "line 2: not JSON"),
            ("[1]", "line 2: not a JSON object"),
            ('{"id": "x"}', "line 2: no path"),
            ('{"path": 3}', "line 2: path is 3, not text"),
            ('{"path": "x", "lables": {}}', "line 2: unknown key 'lables'; the keys are path, id"),
            ('{"path": "x", "start": "1"}', "line 2: start is '1', not a number of seconds"),
            ('{"path": "x", "start": true}', "line 2: start is True"),
            ('{"path": "x", "start": 3, "end": 1}', "line 2: x: end 1.0 s is not after"),
            ('{"path": "x", "labels": [1]}', "line 2: labels is"),
            ('{"path": "x", "labels": {"m": "2"}}', "line 2: label 'm' is '2', not a number"),
            ('{"path": "x", "labels": {"m": Infinity}}', "line 2: x: label 'm' is inf"),
            ('{"path": "x", "labels": {"m": 1%s}}' % ("0" * 400), "line 2: int too large"),
            ('{"path": "x", "start": 1%s}' % ("0" * 400), "line 2: int too large"),
            ('{"path": "x", "start": 1%s}' % ("0" * 5000), "line 2: not JSON: Exceeds the limit"),
            ("[" * 100_000, "line 2: not JSON: maximum recursion depth"),
            ('{"path": "a.mp4"}', r"two clips have the id 'a\.mp4': .*a\.mp4 and"),
        ],
    )
    def test_a_wrong_line_is_named(self, tmp_path, line, message):
        path = write(tmp_path / "m.jsonl", '{"path": "a.mp4"}', line)
        with pytest.raises(ClipError, match=message) as error:
            list_clips([path])
        assert "\n" not in str(error.value)
        assert str(tmp_path) in str(error.value)

    def test_csv(self, tmp_path):
        path = write(
            tmp_path / "m.csv",
            "path,object,mass,note,start,gap",
            'a.mp4,ball,12.5,"heavy, red",0.5,1',
            "b.mp4,,,,,",
        )
        a, b = list_clips([path])
        assert (a.object, a.start, dict(a.labels)) == ("ball", 0.5, {"mass": 12.5, "gap": 1.0})
        assert (b.object, b.start) == ("b.mp4", None)
        assert all(math.isnan(value) for value in b.labels.values())

    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            (
                ["name,mass", "a.mp4,1"],
                "line 1: no column 'path' in the header; there is 'name', 'mass'",
            ),
            (["path mass", "a.mp4 1"], "no column 'path' in the header; there is 'path mass'"),
            (["clip,mass", "a,1"], "there is 'clip', 'mass'; if 'clip' names files, or clips of"),
            (["path,path", "a,b"], "line 1: a column appears twice"),
            (["path,mass", "a.mp4,1,2"], "line 2: not 2 cells"),
            (["path,mass", "a.mp4"], "line 2: not 2 cells"),
            (["path,mass", "a.mp4,1", "b.mp4,12;5"], "line 3: label 'mass' is '12;5'"),
            (["path,start", "a.mp4,soon"], "line 2: start is 'soon', not a number of seconds"),
            (["path", '"a.mp4'], "line 2: unexpected end of data"),
        ],
    )
    def test_a_wrong_csv_is_named(self, tmp_path, lines, message):
        with pytest.raises(ClipError, match=message):
            list_clips([write(tmp_path / "m.csv", *lines)])

    def test_csv_of_a_spreadsheet(self, tmp_path):
        (tmp_path / "m.csv").write_bytes(b"\xef\xbb\xbfpath,mass\r\na.mp4,1\r\n")
        assert [(c.id, c.labels["mass"]) for c in list_clips([tmp_path / "m.csv"])] == [
            ("a.mp4", 1.0)
        ]

    def test_txt(self, tmp_path):
        path = write(tmp_path / "list.txt", "a b.mp4", "", "/elsewhere/c.mp4", "#1.mp4")
        assert [clip.id for clip in list_clips([path])] == ["a b.mp4", "/elsewhere/c.mp4", "#1.mp4"]
        assert list_clips([path])[1].path == Path("/elsewhere/c.mp4")

    def test_not_text(self, tmp_path):
        (tmp_path / "m.txt").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ClipError, match=r"m\.txt is not UTF-8 text"):
            list_clips([tmp_path / "m.txt"])

    def test_written_and_read_again_is_the_same(self, tmp_path):
        clips = [
            Clip(id="a", path=tmp_path / "v/ä.mp4", start=0.25, labels={"m": 1.5, "n": math.nan}),
            Clip(id="b", path=Path("/elsewhere/b.mp4"), end=3, object="o", scenario="fall"),
        ]
        write_manifest(clips, tmp_path / "m.jsonl")
        again = read_manifest(tmp_path / "m.jsonl")
        assert [repr(clip) for clip in again] == [repr(clip) for clip in clips]
        stored = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
        assert [entry["path"] for entry in stored] == ["v/ä.mp4", "/elsewhere/b.mp4"]

    def test_units_come_back(self, tmp_path):
        units = {"mass": "g"}
        clip = Clip(id="a", path=tmp_path / "a", labels={"mass": 14, "gap": math.nan}, units=units)
        write_manifest([clip], tmp_path / "m.jsonl")
        stored = json.loads((tmp_path / "m.jsonl").read_text())
        assert (stored["labels"], stored["units"]) == ({"mass": 14, "gap": None}, units)
        assert dict(read_manifest(tmp_path / "m.jsonl")[0].units) == units

    def test_what_is_understood_is_said_in_the_log(self, tmp_path, caplog):
        caplog.set_level("INFO")
        rows = [f"{mass}.mp4,{mass},-999" for mass in range(10, 30)]
        path = write(tmp_path / "m.csv", "File,mass [g],size", *rows[:-1], "x.mp4,-999,3")
        list_clips([path])
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            (
                "INFO",
                f"{path}: CSV; 20 clips of 20 objects; read 'File' as path; labels mass [g], size",
            ),
            (
                "WARNING",
                f"warning: {path}: mass is -999 in 1 clip and 10 to 28 in the other 19: if that "
                "means unknown, leave the cell empty",
            ),
            (
                "INFO",
                f"note: {path}: every clip is its own object: a column 'object' says which clips "
                "show one thing",
            ),
        ]

    def test_objects_of_two_tables_are_spelled_alike(self, tmp_path):
        one = write(tmp_path / "a.csv", "path,object", "a.mp4,ball")
        two = write(tmp_path / "b.csv", "path,object", "b.mp4,Ball")
        with pytest.raises(ClipError, match=r"the object is 'ball' in a\.mp4 and 'Ball' in b\.mp4"):
            list_clips([one, two])

    def test_a_name_that_is_no_valid_text_comes_back(self, tmp_path):
        clip = Clip(id="ä\udcff.mp4", path=tmp_path / "ä\udcff.mp4")
        write_manifest([clip], tmp_path / "m.jsonl")
        assert repr(read_manifest(tmp_path / "m.jsonl")) == repr([clip])

    def test_no_clips_at_all(self, tmp_path):
        empty = [write(tmp_path / "a.jsonl"), write(tmp_path / "b.csv", "path,mass")]
        with pytest.raises(ClipError, match=r"there are no clips in .*a\.jsonl, .*b\.csv"):
            list_clips(empty)
        assert len(list_clips([*empty, write(tmp_path / "c.txt", "a.mp4")])) == 1

    def test_a_manifest_moves_with_its_folder(self, tmp_path):
        touch(tmp_path / "old/v/a.mp4")
        write_manifest([Clip(id="a", path=tmp_path / "old/v/a.mp4")], tmp_path / "old/m.jsonl")
        os.rename(tmp_path / "old", tmp_path / "new")
        assert list_clips([tmp_path / "new/m.jsonl"])[0].path.is_file()


class TestHostile:
    """Whatever a manifest is, one sentence."""

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b'{"path": "' + b"a" * (2 << 20), "line 1: more than 1,048,576 characters"),
            (b'{"path": "a.mp4"}\n' + b"[" * (2 << 20), "line 2: more than 1,048,576"),
            (b"[" * 100_000, "line 1: not JSON"),
            (b'{"path": ' * 50_000, "line 1: not JSON"),
            (b'{"path": "a.mp4", "start": NaN}', "start is nan seconds"),
            (b'{"path": "a.mp4", "end": Infinity}', "end is inf seconds"),
            (b'{"path": "a.mp4", "labels": {"mass": Infinity}}', "label 'mass' is inf"),
            (
                b'{"path": "a.mp4", "labels": {"mass": 1' + b"0" * 400 + b"}}",
                "line 1: int too large",
            ),
            (b'{"path": "a.mp4", "start": 1' + b"0" * 9000 + b"}", "line 1: "),
            (b'{"path": "a.mp4", "labels": [[[]]]}', "not an object of numbers"),
            (b'{"path": ["a.mp4"]}', r"path is \['a.mp4'\], not text"),
            (b'{"path": "\\ud800.mp4"}', "line 1: "),
            (b'{"path": "a\\u0000.mp4"}', "line 1: "),
            (b"\xff\xfe{", "is not UTF-8 text"),
        ],
    )
    def test_lines(self, tmp_path, content, message):
        (tmp_path / "m.jsonl").write_bytes(content)
        with pytest.raises(ClipError, match=f"m.jsonl.*{message}"):
            list_clips([tmp_path / "m.jsonl"])

    @pytest.mark.timeout(120)
    def test_what_is_no_file(self, tmp_path):
        os.mkfifo(tmp_path / "fifo.jsonl")
        (tmp_path / "to fifo.csv").symlink_to("fifo.jsonl")
        (tmp_path / "zero.txt").symlink_to("/dev/zero")
        (tmp_path / "sparse.jsonl").touch()
        os.truncate(tmp_path / "sparse.jsonl", 1 << 40)
        for name, reason in (
            ("fifo.jsonl", "it is a FIFO, not a file"),
            ("to fifo.csv", "it is a FIFO, not a file"),
            ("zero.txt", "it is a device, not a file"),
            ("sparse.jsonl", "hardly any of its bytes were ever written"),
        ):
            with pytest.raises(ClipError, match=f"{name} is .*{reason}"):
                list_clips([tmp_path / name])

    def test_a_linked_manifest_and_linked_clips_are_read(self, tmp_path):
        touch(tmp_path / "videos" / "a.mp4")
        (tmp_path / "b.mp4").symlink_to("videos/a.mp4")
        write(tmp_path / "m.jsonl", '{"path": "b.mp4"}')
        (tmp_path / "n.jsonl").symlink_to("m.jsonl")
        assert [clip.id for clip in list_clips([tmp_path / "n.jsonl"])] == ["b.mp4"]

    def test_folders_in_folders_without_end(self, tmp_path, monkeypatch):
        """As `os.walk` of Python 3.11 ends, some thousand folders down."""

        def walk_too_deep(*arguments: object, **options: object) -> None:
            raise RecursionError

        monkeypatch.setattr(os, "walk", walk_too_deep)
        with pytest.raises(HeliographError, match="holds folders in folders too deep to read"):
            list_clips([tmp_path])

    @pytest.mark.parametrize("kind", ["link", "FIFO", "hard link"])
    def test_what_is_planted_at_its_name_is_not_written(self, tmp_path, kind):
        victim, path = tmp_path / "victim", tmp_path / "m.jsonl"
        plant(path, kind, victim)
        with pytest.raises(UnsafeFileError, match=r"m\.jsonl is not written: it "):
            write_manifest([Clip(id="a", path=tmp_path / "a.mp4")], path)
        assert victim.read_text() == "a user's own"
