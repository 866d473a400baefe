"""A hub on loopback: what the clients of the Hugging Face hub ask of it, over a folder of files, with the failures of a real one.

It answers the metadata of repositories with sizes and digests, trees, access checks and files with ranges, as
https://huggingface.co/docs/hub/api and the clients' own requests describe them. Set ``HF_ENDPOINT`` to `LoopbackHub.url`.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_of_somebody_who_accepted_the_terms"
LARGE = (".bin", ".parquet", ".safetensors", ".zip")
"""Files that the hub keeps by their SHA-256; others are git blobs."""

_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info|auth-check)(?:/(.*))?)?")
_RESOLVE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/(.+)")


@dataclass
class Repo:
    """A repository: a commit and its files for each revision."""

    revisions: dict[str, tuple[str, dict[str, bytes]]] = field(default_factory=dict)
    gated: bool = False

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        by_commit = {commit: (commit, files) for commit, files in self.revisions.values()}
        return self.revisions.get(revision) or by_commit.get(revision)


@dataclass
class Request:
    method: str
    path: str
    range: str
    agent: str


def digest(name: str, content: bytes) -> str:
    """The name of a file in the client's cache: the SHA-256 of a large one, git's SHA-1 of a small one."""
    if name.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that were broken, by either side."""


class LoopbackHub:
    """A hub in a thread. ``requests`` is what was asked of it.

    ``broken[name]`` is after how many bytes of an answer with the file of that name the connection breaks; ``damaged`` are the names
    of files that come with a wrong byte; ``silent`` makes it take questions and never answer.
    """

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.requests: list[Request] = []
        self.broken: dict[str, int] = {}
        self.damaged: set[str] = set()
        self.silent = False
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> LoopbackHub:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.silent = False
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, kind: str, id: str, files: Mapping[str, bytes], revision: str = "main", gated: bool = False) -> str:
        """Put a revision of a ``model`` or ``dataset`` on the hub and return its commit."""
        commit = hashlib.sha1(json.dumps([id, revision, {name: digest(name, files[name]) for name in files}]).encode()).hexdigest()
        repo = self.repos.setdefault((kind, id), Repo())
        repo.revisions[revision] = commit, dict(files)
        repo.revisions.setdefault("main", repo.revisions[revision])
        repo.gated = gated or repo.gated
        return commit

    def asked_for(self, name: str, method: str = "GET") -> list[Request]:
        """The requests for a file."""
        return [request for request in self.requests if request.method == method and request.path.endswith(name)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(Request(self.command, path, self.headers.get("Range", ""), self.headers.get("User-Agent", "")))
        while self.hub.silent:
            time.sleep(0.05)
        if match := _API.fullmatch(path):
            self._api(match[1][:-1], match[2], match[3] or "", match[4] or "", parse_qs(url.query))
        elif match := _RESOLVE.fullmatch(path):
            self._resolve("dataset" if match[1] else "model", match[2], match[3])
        else:
            self._error(404, "EntryNotFound", "Not found")

    def _api(self, kind: str, id: str, what: str, rest: str, query: dict[str, list[str]]) -> None:
        repo = self.hub.repos.get((kind, id))
        if repo is None:
            # What the hub says to somebody who has not signed in.
            self._error(401, "RepoNotFound", "Invalid username or password.")
            return
        if what == "auth-check":
            self._json({}) if self._may(repo) else self._refuse(kind, id)
            return
        name = max((name for name in [*repo.revisions, *(c for c, _ in repo.revisions.values())] if (rest + "/").startswith(name + "/")),
                   key=len, default=rest or "main")  # fmt: skip
        found = repo.at(name)
        if found is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {name}")
            return
        commit, files = found
        if what == "tree":
            self._tree(files, rest[len(name) :].strip("/"))
        elif what == "paths-info":
            wanted = (json.loads(self.body) if self.headers.get("Content-Type", "").endswith("json") else parse_qs(self.body.decode()))[
                "paths"
            ]
            wanted = [wanted] if isinstance(wanted, str) else wanted
            self._json(
                [_entry(path, files[path]) for path in wanted if path in files]
                + [_folder(path) for path in wanted if _is_folder(path, files)]
            )
        else:
            siblings = [
                {"rfilename": path, **(_sizes(path, content) if "blobs" in query else {})} for path, content in sorted(files.items())
            ]
            gated = "auto" if repo.gated else False
            self._json({"id": id, "_id": "0", "sha": commit, "private": False, "gated": gated, "disabled": False, "siblings": siblings,
                        "tags": [], "downloads": 0, "likes": 0, "lastModified": "2026-01-01T00:00:00.000Z"})  # fmt: skip

    def _tree(self, files: dict[str, bytes], under: str) -> None:
        inside = {path: content for path, content in sorted(files.items()) if not under or path.startswith(f"{under}/")}
        if not inside and under:
            self._error(404, "EntryNotFound", f"{under} does not exist")
            return
        recursive = "recursive=true" in self.path.lower()
        depth = under.count("/") + 1 if under else 0
        folders = {"/".join(path.split("/")[:end]) for path in inside for end in range(depth + 1, path.count("/") + 1)}
        entries = [_folder(folder) for folder in sorted(folders)] + [_entry(path, content) for path, content in inside.items()]
        self._json([entry for entry in entries if recursive or entry["path"].count("/") == depth])

    def _resolve(self, kind: str, id: str, rest: str) -> None:
        repo = self.hub.repos.get((kind, id))
        if repo is None:
            self._error(401, "RepoNotFound", "Invalid username or password.")
            return
        if not self._may(repo):
            self._refuse(kind, id)
            return
        for revision in sorted([*repo.revisions, *(commit for commit, _ in repo.revisions.values())], key=len, reverse=True):
            if rest.startswith(f"{revision}/"):
                commit, files = repo.at(revision) or ("", {})
                name = rest.removeprefix(f"{revision}/")
                if name in files:
                    self._file(name, files[name], commit)
                else:
                    self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
                return
        self._error(404, "RevisionNotFound", "Invalid rev id")

    def _file(self, name: str, content: bytes, commit: str) -> None:
        etag = digest(name, content)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if name.endswith(LARGE):
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        if name in self.hub.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, total, status = 0, len(content), 200
        if match and total:
            start, stop = int(match[1]), int(match[2] or total - 1) + 1
            if start >= total:
                self._error(416, "", "Range not satisfiable", {"Content-Range": f"bytes */{total}"})
                return
            content, status = content[start:stop], 206
            headers["Content-Range"] = f"bytes {start}-{start + len(content) - 1}/{total}"
        self.send_response(status)
        for key, value in {**headers, "Content-Type": "application/octet-stream", "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if name in self.hub.broken:
            self.wfile.write(content[: self.hub.broken[name]])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(content)

    def _may(self, repo: Repo) -> bool:
        return not repo.gated or self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _refuse(self, kind: str, id: str) -> None:
        self._error(403, "GatedRepo", f"Access to {kind} {id} is restricted and you are not in the authorized list.")

    def _json(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps({"error": message}).encode()
        self.send_response(status)
        for key, value in {**(headers or {}), "X-Error-Code": code, "X-Error-Message": message}.items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _sizes(path: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    sizes: dict[str, Any] = {"size": len(content), "blobId": blob}
    if path.endswith(LARGE):
        sizes["lfs"] = {"size": len(content), "sha256": digest(path, content), "pointerSize": 134}
    return sizes


def _entry(path: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry: dict[str, Any] = {"type": "file", "oid": blob, "size": len(content), "path": path}
    if path.endswith(LARGE):
        entry["lfs"] = {"oid": digest(path, content), "size": len(content), "pointerSize": 134}
    return entry


def _folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0, "path": path}


def _is_folder(path: str, files: Mapping[str, bytes]) -> bool:
    return path not in files and any(name.startswith(f"{path}/") for name in files)
