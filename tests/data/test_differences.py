from data.differences import first_difference


def test_nested_fields_are_named_in_full():
    difference = first_difference({"a": {"b": 1}}, {"a": {"b": 2}})
    assert difference == (("a", "b"), 1, 2)
    assert difference.name == "a.b"


def test_what_a_user_chooses_comes_before_what_follows_from_it():
    one = {"dim": 8, "output": "cls", "preprocess": {"crop": 1, "name": "official"}}
    two = {"dim": 72, "output": "grid3", "preprocess": {"crop": 2, "name": "paper"}}
    found = first_difference({"fingerprint": one}, {"fingerprint": two})
    assert (found.name, found.option) == ("fingerprint.output", "--pool")
    found = first_difference(
        {"fingerprint": one}, {"fingerprint": {**two, "output": "cls", "dim": 8}}
    )
    assert found.option == "--preprocess"
    assert first_difference({"a": {"dim": 1}}, {"a": {"dim": 2}}).option == "a.dim"


def test_a_missing_field_differs_from_null():
    assert first_difference({"a": 1}, {}) == (("a",), 1, None)
    assert first_difference({}, {"a": 1}) == (("a",), None, 1)
    assert first_difference({"a": None}, {}) == (("a",), None, None)


def test_equal_values_do_not_differ():
    assert first_difference({"a": {"b": [1]}}, {"a": {"b": [1]}}) is None


def test_fields_of_the_left_come_first_and_in_its_order():
    left, right = {"z": 1, "a": 1}, {"new": 1, "a": 2, "z": 2}
    assert first_difference(left, right).name == "z"
    assert first_difference({"a": 1}, {"new": 1, "a": 1}).name == "new"


def test_objects_in_lists_are_searched_and_other_lists_count_as_one_value():
    left = {"agents": [{"cache": "x"}, {"cache": "y"}], "seeds": [0, 1]}
    right = {"agents": [{"cache": "x"}, {"cache": "z"}], "seeds": [0, 1]}
    assert first_difference(left, right) == (("agents", "cache"), "y", "z")
    assert first_difference({"seeds": [0, 1]}, {"seeds": [0, 2]}) == (("seeds",), [0, 1], [0, 2])
    assert first_difference([{"a": 1}], [{"a": 1}, {"a": 1}]).path == ()


def test_text_is_no_list():
    assert first_difference({"a": "xy"}, {"a": "xz"}) == (("a",), "xy", "xz")
