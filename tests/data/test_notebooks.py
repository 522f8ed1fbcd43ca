"""Tables for notebooks: what comes from files is text, never markup."""

import sys

import pytest

from data.errors import HeliographError
from data.notebooks import LONGEST, Picture, data_frame, html_table


def test_all_text_is_escaped_and_cut():
    evil = '<img src=x onerror="alert(1)">'
    shown = html_table(evil, [evil], [[evil]], [evil])
    assert "<img" not in shown
    assert shown.count("&lt;img") == 4
    assert "a" * LONGEST not in html_table("", ["a"], [["a" * 10_000]])


def test_a_picture_is_shown_and_cannot_leave_its_attribute():
    assert '<img src="data:x">' in html_table("", ["a"], [[Picture("data:x")]])
    assert "<script>" not in html_table("", ["a"], [[Picture('"><script>')]])


def test_without_pandas_a_sentence_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(HeliographError, match=r"needs the package pandas .*: pip install pandas"):
        data_frame({"a": [1]})


def test_columns_become_those_of_a_data_frame():
    pandas = pytest.importorskip("pandas")
    frame = data_frame({"a": [1, 2], "b": ["x", "y"]})
    assert isinstance(frame, pandas.DataFrame)
    assert frame.to_dict("list") == {"a": [1, 2], "b": ["x", "y"]}
