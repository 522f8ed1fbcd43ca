import json
import math
import os
from pathlib import Path

import pytest

from data.clips import Clip, ClipError
from data.tables import read_table

ROWS = [("a.mp4", "ball", "14.5"), ("b.mp4", "ball", "14.5"), ("c.mp4", "cup", "20")]


def write(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return path


def clips_of(path: Path) -> list[Clip]:
    return read_table(path).clips


def column(path: Path, name: str) -> str:
    """Return what is said of a column."""
    return next(one.text for one in read_table(path).summary.columns if one.name == name)


def same(clips: list[Clip]) -> list[tuple[str, str, float]]:
    return [(clip.id, clip.object, clip.labels["mass"]) for clip in clips]


EXPECTED = [("a.mp4", "ball", 14.5), ("b.mp4", "ball", 14.5), ("c.mp4", "cup", 20.0)]


class TestFormats:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
    def test_delimiters_and_encodings_are_found(self, tmp_path, delimiter, encoding):
        lines = [delimiter.join(row) for row in [("path", "object", "mass", "größe"),
                                                 *((*row, "1") for row in ROWS)]]  # fmt: skip
        path = write(tmp_path / "t.csv", *lines, encoding=encoding)
        table = read_table(path)
        assert same(table.clips) == EXPECTED
        assert table.clips[0].labels["größe"] == 1
        name = {"utf-8-sig": "byte order mark", "utf-16": "UTF-16", "cp1252": "cp1252"}
        assert name.get(encoding, "CSV" if delimiter != "\t" else "TSV") in table.summary.head
        if delimiter in ";|":
            assert f"delimiter {delimiter!r}" in table.summary.line

    def test_tsv_and_a_line_of_excel_and_empty_rows(self, tmp_path):
        rows = ["\t".join(row) for row in [("path", "object", "mass"), *ROWS]]
        assert same(clips_of(write(tmp_path / "t.tsv", *rows))) == EXPECTED
        rows = [";".join(row) for row in [("path", "object", "mass"), *ROWS]]
        assert same(clips_of(write(tmp_path / "t.csv", "sep=;", *rows, ";;", ""))) == EXPECTED

    def test_quotes_with_delimiters_and_line_breaks(self, tmp_path):
        path = write(tmp_path / "t.csv", "path,object,mass", '"a;,b.mp4","big\nball",3', "c.mp4,,x")
        with pytest.raises(ClipError, match=r"line 4: label 'mass' is 'x'"):
            read_table(path)
        path = write(tmp_path / "t.csv", "path,object,mass", '"a;,b.mp4","big ""ball""",3')
        assert [(c.id, c.object) for c in clips_of(path)] == [("a;,b.mp4", 'big "ball"')]
        path = write(tmp_path / "t.csv", "path, object, mass", 'a.mp4, "ball, red", 3')
        assert [(c.id, c.object) for c in clips_of(path)] == [("a.mp4", "ball, red")]

    @pytest.mark.parametrize(
        "document",
        [
            [{"path": p, "object": o, "mass": float(m)} for p, o, m in ROWS],
            [{"File": p, "obj": o, "labels": {"mass": float(m)}} for p, o, m in ROWS],
            {"version": 1, "clips": [{"path": p, "object": o, "mass": m} for p, o, m in ROWS]},
        ],
    )
    @pytest.mark.parametrize("indent", [None, 2])
    def test_json(self, tmp_path, document, indent):
        (tmp_path / "t.json").write_text(json.dumps(document, indent=indent))
        assert same(clips_of(tmp_path / "t.json")) == EXPECTED

    @pytest.mark.parametrize("suffix", [".jsonl", ".ndjson"])
    def test_json_lines(self, tmp_path, suffix):
        lines = [json.dumps({"path": p, "object": o, "labels": {"mass": float(m)}})
                 for p, o, m in ROWS]  # fmt: skip
        assert same(clips_of(write(tmp_path / f"t{suffix}", *lines))) == EXPECTED

    def test_json_null_is_unknown_and_numbers_name_objects(self, tmp_path):
        path = write(
            tmp_path / "t.json", '[{"path": "a", "object": 3, "m": null}, {"path": "b", "m": 1}]'
        )
        one, two = clips_of(path)
        assert (one.object, two.object) == ("3", "b")
        assert math.isnan(one.labels["m"])

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("t.jsonl", '{"path": "a"}\n{"path": "b", "path": "c"}', "line 2: the key 'path' is"),
            ("t.jsonl", '{"path": "b", "labels": {"m": 1, "m": 2}}', "line 1: the key 'm' is"),
            ("t.json", '[\n{"path": "a"},\n{"path": "b", "path": "c"}]', "line 3: the key 'path'"),
            ("t.json", '{"clips": [],\n"clips": []}', "line 2: not JSON: the key 'clips' is"),
            ("t.json", '{"path": "a"}\n{"path": "b"}', "line 1: not JSON: an object without a"),
            ("t.json", '[{"path": "a"}]\n[]', "line 2: not JSON: more than one value"),
            ("t.json", "3", "line 1: not JSON: neither a list"),
            ("t.json", '[{"path": "a"},', "line 2: not JSON: Expecting value"),
            ("t.json", '[{"path": "a"} {}]', "line 1: not JSON: Expecting ','"),
            ("t.json", "[3]", "line 1: not a JSON object"),
            ("t.json", "[" * 100_000, "line 1: not JSON: "),
            ("t.json", '{"clips": null}', "line 1: not JSON: an object without a list 'clips'"),
            ("t.json", '[{"path": "a", "m": 1%s}]' % ("0" * 400), "line 1: a: label 'm' is inf"),
            ("t.json", '[{"path": "a", "object": true}]', "line 1: object is True, not text"),
            ("t.json", '{"clips"', "line 2: not JSON: Expecting ':'"),
            ("t.json", "{3", "line 1: not JSON: Expecting a key"),
            ("t.json", '{"clips": [] 3', "line 1: not JSON: Expecting ',' or '}'"),
            ("t.json", '[{"path": "a", "units": {"m": "g"}}]', "line 1: there is a unit of 'm'"),
            ("t.json", '[{"path": "a", "units": 3}]', "line 1: units is 3, not an object of"),
        ],
    )
    def test_wrong_json_is_named(self, tmp_path, name, text, message):
        path = write(tmp_path / name, text)
        with pytest.raises(ClipError, match=message) as error:
            read_table(path)
        assert str(error.value).startswith(str(path))

    def test_a_list_of_paths_with_blanks_at_their_ends(self, tmp_path):
        for name in ("a.mp4", "b.mp4", "b.mp4 "):
            (tmp_path / name).touch()
        table = read_table(write(tmp_path / "t.txt", "a.mp4 ", "b.mp4 ", "b.mp4", " gone.mp4", " "))
        assert [clip.id for clip in table.clips] == ["a.mp4", "b.mp4 ", "b.mp4", "gone.mp4"]
        assert table.summary.notes[-1] == ("blanks around 2 paths are left out, first in line 1")

    def test_a_table_that_is_named_as_a_list_of_paths(self, tmp_path):
        path = write(tmp_path / "t.txt", "path,object,mass", "a.mp4,ball,1")
        with pytest.raises(ClipError, match=r"t\.txt is a table, not a list of paths: .*\.csv"):
            read_table(path)

    @pytest.mark.parametrize("suffix", [".txt", ".csv"])
    def test_names_that_are_not_utf_8(self, tmp_path, suffix):
        name = os.fsdecode(b"kugel\xfc.mp4")
        (tmp_path / name).touch()
        header = b"path,object\n" if suffix == ".csv" else b""
        (tmp_path / f"t{suffix}").write_bytes(
            header + b"kugel\xfc.mp4" + b",k\xfcrbis" * bool(header) + b"\n"
        )
        table = read_table(tmp_path / f"t{suffix}")
        assert [clip.path for clip in table.clips] == [tmp_path / name]
        assert "cp1252" in table.summary.head
        if header:
            assert table.clips[0].object == "kürbis"

    def test_what_is_too_large_or_no_text(self, tmp_path, monkeypatch):
        (tmp_path / "t.csv").write_bytes(b"path,mass\n\x81,1\n")
        with pytest.raises(ClipError, match=r"t\.csv is not UTF-8 text .*, nor cp1252: save it"):
            read_table(tmp_path / "t.csv")
        monkeypatch.setattr("data.tables.files.MOST_BYTES", 10)
        with pytest.raises(ClipError, match=r"t\.csv is no table of clips: it has more than 10 by"):
            read_table(tmp_path / "t.csv")


class TestColumns:
    def test_near_names_are_taken_and_said(self, tmp_path):
        path = write(
            tmp_path / "t.csv",
            "File, object,Start,t_end,Scenario,Clip ID,mass",
            "a.mp4,ball,0.5,1.5,fall,one,3",
            "a.mp4,ball,2,3,fall,two,3",
        )
        table = read_table(path)
        first, second = table.clips
        assert (first.id, first.object, first.scenario) == ("one", "ball", "fall")
        assert (first.start, first.end, second.start, second.end) == (0.5, 1.5, 2, 3)
        assert (
            "read 'File' as path, ' object' as object, 'Start' as start, 't_end' as end, "
            "'Scenario' as scenario, 'Clip ID' as id"
        ) in table.summary.line

    @pytest.mark.parametrize(
        ("header", "message"),
        [
            ("path,object,Object", "two columns are the object of a clip: 'object' and 'Object'"),
            ("path,file,mass", "two columns are the path of a clip: 'path' and 'file'"),
            ("path,start_ms,mass", "column 'start_ms': start is given in seconds"),
            ("path,End [ms],mass", r"column 'End \[ms\]': end is given in seconds"),
            ("path,mass [g],mass [kg]", r"two columns are one label: 'mass \[g\]' and 'mass"),
        ],
    )
    def test_columns_that_cannot_both_be_meant(self, tmp_path, header, message):
        with pytest.raises(ClipError, match=f"t.csv, line 1: {message}"):
            read_table(write(tmp_path / "t.csv", header, "a.mp4,1,2"))

    def test_units_of_names_and_cells(self, tmp_path):
        path = write(
            tmp_path / "t.csv",
            "path,mass [g],height (cm),speed,depth [m]",
            "a.mp4,14,3,1.5 m/s,2 cm",
            "b.mp4,15,4,2 m/s,3 cm",
        )
        clip = clips_of(path)[0]
        assert dict(clip.labels) == {"mass": 14, "height": 3, "speed": 1.5}
        assert dict(clip.units) == {"mass": "g", "height": "cm", "speed": "m/s"}
        assert column(path, "mass [g]") == "label mass, 14 to 15 g, one value per object"
        assert column(path, "depth [m]") == "left out: its name says 'm', and its cells 'cm'"

    @pytest.mark.parametrize(
        ("cells", "said"),
        [
            (["01_02", "01_03", "01_04"], "left out: no numbers, e.g. '01_02' (line 2)"),
            (['"1,200"', '"1,300"', "950"], "left out: '1,200' could be 1.2 or 1200 (line 2)"),
            (["", "NA", "-"], "left out: it is empty"),
            (["heavy", "light", ""], "left out: no numbers, e.g. 'heavy' (line 2)"),
            (["14 g", "1.5 kg", ""], "left out: its cells have several units: 'g' and 'kg'"
              " (line 3)"),
            (['"14,5"', "NA", '"1,200"'], "label, 1.2 to 14.5, 1 missing, one value per object"),
            (['"1,200.5"', "?", "null"], "label, 1200.5, 2 missing, one value per object"),
            (["14 g", "14 g", "15 g"], "label, 14 to 15 g, one value per object"),
            (["14", "15", "15"], "label, 14 to 15, several values per object"),
        ],
    )  # fmt: skip
    def test_what_is_said_of_a_column(self, tmp_path, cells, said):
        rows = [f"{p},{o},{cell}" for (p, o, _), cell in zip(ROWS, cells, strict=True)]
        path = write(tmp_path / "t.csv", "path,object,x", *rows)
        assert column(path, "x") == said
        if said.startswith("left out"):
            assert f"left out 'x' ({said.removeprefix('left out: ')})" in (
                read_table(path).summary.line
            )

    def test_row_numbers_and_columns_without_a_name(self, tmp_path):
        path = write(
            tmp_path / "t.csv", ",path,mass,Unnamed: 3,index,", "0,a.mp4,3,0,1,x", "1,b.mp4,4,1,2,y"
        )
        assert dict(clips_of(path)[0].labels) == {"mass": 3}
        assert column(path, "(no name 1)") == "left out: it numbers the rows"
        assert column(path, "(no name 2)") == "left out: it has no name"
        assert column(path, "Unnamed: 3") == "left out: it numbers the rows"
        assert column(path, "index") == "left out: it numbers the rows"

    def test_a_decimal_comma_is_said_and_holds_for_the_file(self, tmp_path):
        path = write(
            tmp_path / "t.csv",
            "path;start;mass;volume",
            "a.mp4;0,5;14;1.200",
            "b.mp4;1,25;15,5;1.300",
        )
        table = read_table(path)
        assert [clip.start for clip in table.clips] == [0.5, 1.25]
        assert [clip.labels["mass"] for clip in table.clips] == [14, 15.5]
        assert "decimal comma" in table.summary.line
        assert column(path, "volume") == "left out: '1.200' could be 1200 or 1.2 (line 2)"

    def test_sentinels_and_units_are_warnings(self, tmp_path):
        rows = [f"{n}.mp4,{10 + n},{(10 + n) / (1000 if n < 5 else 1)}" for n in range(20)]
        path = write(tmp_path / "t.csv", "path,mass,size", *rows, "x.mp4,-999,")
        summary = read_table(path).summary
        assert summary.warnings[0].startswith("mass is -999 in 1 clip and 10 to 29 in the other 20")
        assert "size is 0.01 to 0.014 in 5 clips" in summary.warnings[1]
        assert len(summary.warnings) == 2

    @pytest.mark.parametrize(
        ("start", "message"),
        [
            ("soon", "line 2: start is 'soon', not a number of seconds"),
            ('"1,200"', "line 2: start is '1,200', not a number of seconds: '1,200' could be"),
            ("3 ms", "line 2: start is in ms, not in seconds"),
            ("00:30", "line 2: start is '00:30'"),
        ],
    )
    def test_a_time_that_is_no_number_of_seconds(self, tmp_path, start, message):
        with pytest.raises(ClipError, match=message):
            read_table(write(tmp_path / "t.csv", "path,start", f"a.mp4,{start}"))

    def test_seconds_with_their_unit(self, tmp_path):
        clips = clips_of(write(tmp_path / "t.csv", "path,start,end [s]", "a.mp4,1.5 s,3"))
        assert (clips[0].start, clips[0].end) == (1.5, 3)


class TestObjects:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("thing01", "Thing01"),
            ("ball", "ball "),
            ("red ball", "red  ball"),
            ("m\u00fcsli", "mu\u0308sli"),
            ("ball", "ba\u200bll"),
            ("ball", "\uff42all"),
        ],
    )
    @pytest.mark.parametrize("role", ["object", "scenario"])
    def test_two_spellings_of_one_name_are_refused(self, tmp_path, role, one, other):
        path = write(tmp_path / "t.csv", f"path,{role}", f"a.mp4,{one}", f"b.mp4,{other}")
        with pytest.raises(ClipError) as error:
            read_table(path)
        assert f"the {role} is {one!a} in line 2 and {other!a} in line 3" in str(error.value)
        (tmp_path / "t.json").write_text(
            json.dumps([{"path": "a", role: one}, {"path": "b", role: other}])
        )
        with pytest.raises(ClipError, match="in case, blanks or Unicode form alone"):
            read_table(tmp_path / "t.json")

    def test_ids_of_two_unicode_forms_are_refused(self, tmp_path):
        path = write(tmp_path / "t.csv", "path", "m\u00fcsli.mp4", "mu\u0308sli.mp4")
        with pytest.raises(
            ClipError, match=r"ids that differ in their Unicode form alone: 'm\\xfc"
        ):
            read_table(path)

    def test_blanks_around_cells_are_no_part_of_them(self, tmp_path):
        path = write(tmp_path / "t.csv", "path, object, mass", "a.mp4, ball, 1", "b.mp4, ball, 2")
        assert {clip.object for clip in clips_of(path)} == {"ball"}

    def test_clips_without_an_object_are_counted(self, tmp_path):
        path = write(tmp_path / "t.csv", "path,object", "a.mp4,ball", "b.mp4,NA", "c.mp4,")
        table = read_table(path)
        assert [clip.object for clip in table.clips] == ["ball", "b.mp4", "c.mp4"]
        assert table.summary.notes == ("2 of 3 clips name no object: each is its own",)
        path = write(tmp_path / "t.csv", "path,mass", "a.mp4,1", "b.mp4,2")
        assert read_table(path).summary.notes[0].startswith("every clip is its own object: ")


def test_the_clips_know_the_hash_of_their_table(tmp_path):
    import hashlib

    path = write(tmp_path / "t.csv", "path,mass", "a.mp4,1")
    assert clips_of(path)[0].table_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_summary_fits_into_80_columns(tmp_path):
    name = "a column with quite a long name, as people write them [furlongs]"
    path = write(tmp_path / "t.csv", f'path,object,"{name}",note',
                 *(f"{p},{o},{m},{'word ' * 30}" for p, o, m in ROWS))  # fmt: skip
    lines = list(read_table(path).summary.lines())
    assert max(map(len, lines)) <= 80
    assert "14.5 to 20 furlongs" in " ".join(" ".join(lines).split())
    assert json.loads(json.dumps(read_table(path).summary.to_json()))["clips"] == 3
