import hashlib
import json
from dataclasses import asdict

import pytest

from data.cache import CacheError
from data.cache.joined.clip_lists import name_of_claim, publish_list, read_list
from data.cache.joined.shared_folder import SharedFolder
from data.clips import Clip


@pytest.fixture
def listed():
    return [
        Clip(id="ä/\U0001f600", path="/films/ä.mp4", labels={"mass": float("nan")}),
        Clip(id="b", path="/films/b.mp4", start=0, end=1.5, object="o", units={}),
    ]


def test_a_list_is_read_as_it_was_and_named_as_earlier_versions_name_it(tmp_path, listed):
    shared = SharedFolder(tmp_path / "c.h5")
    publish_list(shared, listed)
    publish_list(shared, listed)
    (path,) = (shared.path / "clips").iterdir()
    text = path.read_text()
    assert path.stem == hashlib.sha256(json.dumps(text).encode()).hexdigest()[:32]
    assert repr(read_list(path)) == repr(listed)
    path.write_text(text[:-9])
    with pytest.raises(CacheError, match="is damaged; remove it"):
        read_list(path)


def test_claims_are_called_as_in_earlier_versions(listed):
    plain = json.dumps([asdict(clip) | {"path": str(clip.path)} for clip in listed])
    assert name_of_claim(listed) == hashlib.sha256(plain.encode()).hexdigest()[:32]
    assert name_of_claim(listed[:1]) != name_of_claim(listed)
