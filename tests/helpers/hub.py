"""The Hugging Face Hub on this machine: repositories with commits, by the Hub's HTTP."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.helpers.servers import Answer, Server, part_of, serve

TOKEN = "hf_" + "t" * 34
LARGE = (".safetensors", ".pt", ".h5", ".png")  # as the Hub's .gitattributes have them


@dataclass
class Hub:
    """What the Hub holds: of each repository its commits, oldest first, with all files of each.

    Attributes:
        commits: By repository, `user/name` of a model and `datasets/user/name` of a dataset.
        private: Repositories that only a token opens.
        sent: Every body that came, and every file in it, decoded.
    """

    commits: dict[str, list[tuple[str, dict[str, bytes]]]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    tags: dict[str, str] = field(default_factory=dict)
    sent: list[bytes] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    may_write: bool = True
    url: str = ""

    def add(self, repository: str, files: dict[str, bytes]) -> str:
        """Add a commit with exactly these files; return its hash."""
        commits = self.commits.setdefault(repository, [])
        oid = hashlib.sha1(f"{repository} {len(commits)}".encode()).hexdigest()
        commits.append((oid, files))
        return oid

    def files(self, repository: str) -> dict[str, bytes]:
        """Return the files of the last commit."""
        return self.commits[repository][-1][1]

    def _commit(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.commits[repository]
        revision = self.tags.get(revision, revision)
        if revision == "main":
            return commits[-1] if commits else ("0" * 40, {})
        return next((one for one in commits if one[0] == revision), None)

    def answer(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        """Answer a request that asks."""
        path = unquote(urlsplit(path).path)
        if path == "/":
            return Answer(200, {}, b"the Hub")
        found = re.fullmatch(r"(/api)?/(models/|datasets/)?([^/]+/[^/]+)(?:/([^/]+)/(.+))?", path)
        if found is None or bool(found[1]) > bool(found[2]):
            return Answer(404, {}, b"")
        repository = f"{(found[2] or '').removeprefix('models/')}{found[3]}"
        what, revision, name = found[4], found[5] or "main", ""
        if not found[1]:
            revision, _, name = revision.partition("/")
        knows = headers.get("authorization") == f"Bearer {TOKEN}"
        if repository not in self.commits or (repository in self.private and not knows):
            return Answer(404 if knows else 401, {"X-Error-Code": "RepoNotFound"}, b"")
        commit = self._commit(repository, revision)
        if commit is None:
            return Answer(404, {"X-Error-Code": "RevisionNotFound"}, b"")
        oid, files = commit
        if what == "tree":
            listed = [_entry(name, content) for name, content in sorted(files.items())]
            return _json(listed)
        if what == "revision":
            siblings = [{"rfilename": name} for name in sorted(files)]
            return _json({"id": repository, "sha": oid, "siblings": siblings})
        if name not in files:
            return Answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": oid}, b"")
        content = files[name]
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        whole = part_of(content, headers)
        fields = {"X-Repo-Commit": oid, "ETag": tag, "Accept-Ranges": "bytes"}
        return whole._replace(headers=whole.headers | fields)

    def take(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Answer a request that sends."""
        path = unquote(urlsplit(path).path)
        self.sent.append(body)
        if path.startswith("/objects/"):
            self.objects[path.removeprefix("/objects/")] = body
            return Answer(200, {}, b"")
        if path == "/api/validate-yaml":
            return _json({"errors": [], "warnings": []})
        if headers.get("authorization") != f"Bearer {TOKEN}":
            return Answer(401, {}, b'{"error": "Invalid username or password."}')
        if not self.may_write:
            return Answer(403, {}, b'{"error": "You do not have the rights"}')
        if path.endswith("/info/lfs/objects/batch"):
            asked = json.loads(body)["objects"]
            objects = [
                one | {"actions": {"upload": {"href": f"{self.url}/objects/{one['oid']}"}}}
                for one in asked
            ]
            return _json({"transfer": "basic", "objects": objects})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        user, model, what, _ = path.removeprefix("/api/models/").split("/")
        if what == "preupload":
            modes = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for one in json.loads(body)["files"]
            ]
            return _json({"files": modes})
        assert what == "commit"
        return self._add_commit(f"{user}/{model}", body)

    def _create(self, asked: dict) -> Answer:
        repository = f"{asked.get('organization') or 'user'}/{asked['name']}"
        status = 409 if repository in self.commits else 200
        self.commits.setdefault(repository, [])
        if asked.get("private") or asked.get("visibility") == "private":
            self.private.add(repository)
        return _json({"url": f"{self.url}/{repository}", "id": repository}, status)

    def _add_commit(self, repository: str, body: bytes) -> Answer:
        files = dict(self.files(repository)) if self.commits[repository] else {}
        for line in body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            match operation["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                    self.sent.append(files[value["path"]])
                case "lfsFile":
                    files[value["path"]] = self.objects[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        oid = self.add(repository, files)
        url = f"{self.url}/{repository}/commit/{oid}"
        return _json({"success": True, "commitUrl": url, "commitOid": oid})


def _entry(name: str, content: bytes) -> dict:
    oid = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": name, "size": len(content), "oid": oid}


def _json(content: object, status: int = 200) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(content).encode())


@contextmanager
def serve_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Server]:
    """Serve a hub, and have huggingface_hub ask it, with a cache of its own and without a token."""
    from huggingface_hub import constants

    with serve(hub.answer, hub.take) as server:
        hub.url = server.url
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield server
