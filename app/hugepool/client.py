"""A client of the service: what the command line, the mount and the pytest plugin speak HTTP with.

``Client.request`` is the whole of it: one request, its answer, or one of two errors.  The methods below it name
what a caller wants to do and answer with the documents of ``/openapi.json`` as they come: dictionaries, whose types
for a type checker are in ``hugepool.documents``.
"""

import errno
import os
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack, cast
from urllib.parse import quote

import httpx

if TYPE_CHECKING:
    from hugepool import documents

Json = dict[str, Any]
Progress = Callable[[int, int], None]  # how much is done, of how much
DEFAULT_URL = "http://127.0.0.1:8000"
PROBLEM_JSON = "application/problem+json"
TIMEOUT_SECONDS = 300.0  # a large import, a resize of a large host; connecting has its own limit
CONNECT_SECONDS = 5.0
MAX_ANSWER_BYTES = 256 << 20
KEEP_ALIVE_SECONDS = 3.0  # shorter than uvicorn's 5, so that no request meets a connection just being closed
PAGE = 1000
POLL_SECONDS = 0.2
MAX_DIGITS = 19
_FIXED = {"type", "title", "status", "detail", "instance", "errno", "errno_number", "reason", "result"}


class Refused(Exception):
    """The service said no.

    Attributes:
        status: of HTTP.
        errno: its name, such as ``ENOMEM``; ``errno_number`` as the operating system counts.
        detail: a sentence for people.
        reason: a word for programs, or None.
        result: what was done and is kept in spite of the refusal, or None.
        facts: every other field of the problem document: ``node``, ``pfn``, ``pages_needed``, ...
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.errno = str(problem.get("errno", "EIO"))
        self.errno_number = _errno_number(problem.get("errno_number"))
        self.detail = _plain(str(problem.get("detail", f"status {status}")))
        self.reason: str | None = problem.get("reason")
        self.result: Json | None = problem.get("result")
        self.facts = {name: value for name, value in problem.items() if name not in _FIXED}
        super().__init__(f"{_plain(self.errno)}: {self.detail}")


class Unreachable(Exception):
    """Nothing that speaks hugepool's HTTP answers at the address."""

    def __init__(self, url: str, why: object) -> None:
        self.url = url
        super().__init__(f"no service at {url}: {why}")


class BadAnswer(Unreachable):
    """What answers is no service of hugepool, or one that must not be trusted; nothing of the answer was used."""


class Terms(TypedDict, total=False):
    """Conditions and promises around a change: docs/http.md, "Changing"."""

    dry_run: bool
    if_match: int
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A path of the file mirror, and the tag of its revision: the bytes of a file, or the entries of a folder."""

    tag: str
    content: bytes | None
    entries: list[Json] | None


class Client:
    """Speaks with the service at ``url``; safe to share between threads.  Close it, or use it in a ``with``.

    Args:
        url: where the service listens.
        token: sent with every request; None: that of ``HUGEPOOL_TOKEN``, if it is set.
        timeout_seconds: how long an answer may take, from its beginning to its end as well.
        transport: another way to the service than the network, for tests.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.token = os.environ.get("HUGEPOOL_TOKEN", "").strip() if token is None else token
        self._timeout_seconds = timeout_seconds
        try:
            self._http = httpx.Client(
                base_url=self.url,
                headers=_headers(self.token),
                timeout=httpx.Timeout(timeout_seconds, connect=min(CONNECT_SECONDS, timeout_seconds)),
                limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE_SECONDS),
                transport=transport,
                verify=_certificates(self.url),
                trust_env=False,  # no proxy of the environment between a host and its client
            )
        except (httpx.InvalidURL, OSError, ValueError) as error:
            raise Unreachable(url, error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # -- the core ------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        content: bytes | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> httpx.Response:
        """Send one request and give back its answer, which may be 304.

        Raises:
            Refused: the answer is 400 or above.
            Unreachable: there is no answer.
            BadAnswer: it is longer than ``max_bytes``, or none that a service gives.
        """
        try:
            with self._http.stream(
                method, path, json=json, content=content, params=params, headers=headers
            ) as stream:
                answer = self._whole(stream, max_bytes)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise Unreachable(self.url, str(error) or type(error).__name__) from None
        if answer.status_code >= HTTPStatus.BAD_REQUEST:
            kind = answer.headers.get("content-type", "")
            raise Refused(answer.status_code, self._json(answer) if kind.startswith(PROBLEM_JSON) else {})
        if (
            answer.status_code >= HTTPStatus.MULTIPLE_CHOICES
            and answer.status_code != HTTPStatus.NOT_MODIFIED
        ):
            raise BadAnswer(self.url, f"status {answer.status_code}")
        return answer

    def _whole(self, stream: httpx.Response, max_bytes: int) -> httpx.Response:
        """An answer with its body; a server that sends without end, or a byte now and then, is left."""
        if stream.headers.get("content-encoding", "identity") != "identity":
            raise BadAnswer(self.url, "a compressed answer, which was not asked for")
        body, deadline = bytearray(), time.monotonic() + self._timeout_seconds
        for part in stream.iter_bytes():
            body += part
            if len(body) > max_bytes:
                raise BadAnswer(self.url, f"an answer of more than {max_bytes} bytes")
            if time.monotonic() > deadline:
                raise BadAnswer(self.url, f"an answer that takes longer than {self._timeout_seconds:g} s")
        return httpx.Response(
            stream.status_code, headers=stream.headers, content=bytes(body), request=stream.request
        )

    def _json(self, answer: httpx.Response) -> Json:
        try:
            return dict(answer.json())
        except (ValueError, TypeError, RecursionError):
            raise BadAnswer(self.url, f"{answer.request.url} does not answer with JSON") from None

    def get(self, path: str, **params: Any) -> Json:
        """The document at an address below ``/v1``."""
        return self._json(self.request("GET", f"/v1/{path}", params=params))

    def change(self, method: str, path: str, json: Any = None, /, **terms: Unpack[Terms]) -> Json:
        """Send a change to an address below ``/v1``; the document that it answers with, empty for none."""
        headers = {}
        if "if_match" in terms:
            headers["If-Match"] = f'"{terms["if_match"]}"'
        if "idempotency_key" in terms:
            headers["Idempotency-Key"] = terms["idempotency_key"]
        params = {"dry_run": "true"} if terms.get("dry_run") else None
        answer = self.request(method, f"/v1/{path}", json, params=params, headers=headers)
        return self._json(answer) if answer.content else {}

    def items(self, path: str, **query: Any) -> Iterator[Json]:
        """Everything of a list that comes in pages."""
        params: Json = {"limit": PAGE, **query}
        while True:
            page = self.get(path, **params)
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            params["cursor"] = page["next_cursor"]

    # -- hosts ---------------------------------------------------------------------------------------------

    def create_host(self, name: str, spec: Json, **terms: Unpack[Terms]) -> "documents.Host":
        """Boot a machine."""
        return cast("documents.Host", self.change("POST", "hosts", {"name": name, "spec": spec}, **terms))

    def fork_host(self, name: str, origin: str, **terms: Unpack[Terms]) -> "documents.Host":
        """Copy a host."""
        return cast(
            "documents.Host", self.change("POST", "hosts", {"name": name, "fork_of": origin}, **terms)
        )

    def import_files(
        self, name: str, files: Mapping[str, str], kernel: str | None = None
    ) -> "documents.Host":
        """Make a host of a machine's files: absolute path -> text."""
        body = {"name": name, "files": dict(files)} | ({"kernel": kernel} if kernel else {})
        return cast("documents.Host", self.change("POST", "hosts", body))

    def import_archive(
        self, name: str, archive: bytes, kernel: str | None = None, *, series: bool = False
    ) -> "documents.Host":
        """Make a host of a tar of a machine's files, packed or not.

        ``series``: a later look; the host of this name becomes what the machine is now, as its next revision.
        """
        params = given(name=name, kernel=kernel, series="true" if series else None)
        headers = {"Content-Type": "application/gzip"}
        answer = self.request("POST", "/v1/hosts/import", content=archive, params=params, headers=headers)
        return cast("documents.Host", self._json(answer))

    def hosts(self) -> "Iterator[documents.HostRow]":
        """All hosts in order of their names."""
        return cast("Iterator[documents.HostRow]", self.items("hosts"))

    def host(self, name: str) -> "documents.Host":
        """A host: its memory, zones, pools, faults."""
        return cast("documents.Host", self.get(f"hosts/{part(name)}"))

    def revision(self, name: str) -> int:
        """How often a host was changed, its creation included."""
        found: object = self.get(f"hosts/{part(name)}").get("revision")
        if not isinstance(found, int):
            raise BadAnswer(self.url, f"host {name!r} has no revision")
        return found

    def delete_host(self, name: str, **terms: Unpack[Terms]) -> None:
        """Forget a host."""
        self.change("DELETE", f"hosts/{part(name)}", **terms)

    def keep_snapshot(self, host: str, name: str, **terms: Unpack[Terms]) -> "documents.Snapshot":
        """Keep a host as it is now, in place of an earlier snapshot of that name."""
        return cast("documents.Snapshot", self.change("PUT", _snapshot(host, name), **terms))

    def snapshots(self, host: str) -> "list[documents.Snapshot]":
        """All snapshots of a host, by name."""
        found = cast("documents.SnapshotList", self.get(f"hosts/{part(host)}/snapshots"))
        return found["items"]

    def delete_snapshot(self, host: str, name: str, **terms: Unpack[Terms]) -> None:
        """Forget a snapshot."""
        self.change("DELETE", _snapshot(host, name), **terms)

    def reset(self, host: str, to: str, **terms: Unpack[Terms]) -> "documents.Host":
        """Make a host what it was in a snapshot, as its next revision."""
        return cast("documents.Host", self.change("POST", f"hosts/{part(host)}/reset", {"to": to}, **terms))

    def audit(self, host: str) -> "documents.Audit":
        """The laws, recounted: ``ok``, and one row for each."""
        return cast("documents.Audit", self.get(f"hosts/{part(host)}/audit"))

    def dmesg(self, host: str) -> list[str]:
        """The lines that the kernel would have printed."""
        lines: list[str] = self.get(f"hosts/{part(host)}/dmesg")["lines"]
        return lines

    # -- pools ---------------------------------------------------------------------------------------------

    def hugepages(self, host: str, size: str) -> "documents.HugePages":
        """The counters of a pool; ``size`` is the word of sysfs, such as ``2048kB``."""
        return cast("documents.HugePages", self.get(f"hosts/{part(host)}/hugepages/{part(size)}"))

    def resize(
        self,
        host: str,
        size: str,
        count: int,
        *,
        node: int | None = None,
        mempolicy: list[int] | None = None,
        **terms: Unpack[Terms],
    ) -> "documents.Resize":
        """Write ``nr_hugepages``: of the host, of one node, or spread over the nodes of a mempolicy."""
        body = given(count=count, node=node, mempolicy=mempolicy)
        return cast(
            "documents.Resize", self.change("PUT", f"{_pool(host, size)}/nr_hugepages", body, **terms)
        )

    def overcommit(self, host: str, size: str, count: int, **terms: Unpack[Terms]) -> "documents.Overcommit":
        """Write ``nr_overcommit_hugepages``."""
        return cast(
            "documents.Overcommit",
            self.change("PUT", f"{_pool(host, size)}/nr_overcommit_hugepages", {"count": count}, **terms),
        )

    def demote(
        self, host: str, size: str, count: int, *, node: int | None = None, **terms: Unpack[Terms]
    ) -> "documents.Demotion":
        """Split free gigantic pages into pages of 2 MiB."""
        body = given(count=count, node=node)
        return cast("documents.Demotion", self.change("POST", f"{_pool(host, size)}/demote", body, **terms))

    def drain(self, host: str, **terms: Unpack[Terms]) -> "documents.Drained":
        """Work off the deferred frees now."""
        return cast(
            "documents.Drained", self.change("POST", f"hosts/{part(host)}/deferred-frees/drain", **terms)
        )

    # -- who uses the memory -------------------------------------------------------------------------------

    def start_task(self, host: str, task: Json, **terms: Unpack[Terms]) -> "documents.StartedTask":
        """Start a process: ``{"kind": "hugetlb", "count": 8, "touch": 8}``, ``anon``, ``kernel`` or ``cache``."""
        return cast("documents.StartedTask", self.change("POST", f"hosts/{part(host)}/tasks", task, **terms))

    def touch(
        self, host: str, pid: int, count: int, *, mapping: int = 0, **terms: Unpack[Terms]
    ) -> "documents.Touched":
        """Fault in the next ``count`` huge pages of a mapping."""
        body = {"count": count, "map": mapping}
        return cast(
            "documents.Touched", self.change("POST", f"hosts/{part(host)}/tasks/{pid}/touch", body, **terms)
        )

    def tasks(self, host: str) -> "Iterator[documents.Task]":
        """All processes in order of their pid."""
        return cast("Iterator[documents.Task]", self.items(f"hosts/{part(host)}/tasks"))

    def exit_task(self, host: str, pid: int, **terms: Unpack[Terms]) -> "documents.ExitedTask":
        """End a process."""
        return cast("documents.ExitedTask", self.change("DELETE", f"hosts/{part(host)}/tasks/{pid}", **terms))

    # -- hotplug, ranges, faults ---------------------------------------------------------------------------

    def memory_blocks(self, host: str) -> "Iterator[documents.MemoryBlock]":
        """All memory blocks in order of address."""
        return cast("Iterator[documents.MemoryBlock]", self.items(f"hosts/{part(host)}/memory-blocks"))

    def memory_block(self, host: str, block: int) -> "documents.MemoryBlock":
        """One memory block: its state, zone, node and what is in it."""
        return cast("documents.MemoryBlock", self.get(f"hosts/{part(host)}/memory-blocks/{block}"))

    def set_block_state(
        self, host: str, block: int, state: str, **terms: Unpack[Terms]
    ) -> "documents.BlockChange":
        """Write ``offline``, ``online``, ``online_kernel`` or ``online_movable`` to a block's ``state``."""
        path = f"hosts/{part(host)}/memory-blocks/{block}/state"
        return cast("documents.BlockChange", self.change("PUT", path, {"state": state}, **terms))

    def add_virtio_mem(self, host: str, device: Json, **terms: Unpack[Terms]) -> "documents.VirtioMemRun":
        """Add a device: ``{"id": "vm0", "node": 0, "max": "1G", "requested": "1G"}``."""
        return cast(
            "documents.VirtioMemRun", self.change("POST", f"hosts/{part(host)}/virtio-mem", device, **terms)
        )

    def request_virtio_mem(
        self, host: str, device: str, requested: int | str, **terms: Unpack[Terms]
    ) -> "documents.VirtioMemRun":
        """Ask the driver of a device to come to another size."""
        path = f"hosts/{part(host)}/virtio-mem/{part(device)}"
        return cast("documents.VirtioMemRun", self.change("PUT", path, {"requested": requested}, **terms))

    def retry_virtio_mem(self, host: str, device: str, **terms: Unpack[Terms]) -> "documents.VirtioMemRun":
        """Fire the retry timer of a device."""
        path = f"hosts/{part(host)}/virtio-mem/{part(device)}/retry"
        return cast("documents.VirtioMemRun", self.change("POST", path, **terms))

    def remove_virtio_mem(self, host: str, device: str, **terms: Unpack[Terms]) -> "documents.RemovedDevice":
        """Take a device away that the machine has no memory of."""
        path = f"hosts/{part(host)}/virtio-mem/{part(device)}"
        return cast("documents.RemovedDevice", self.change("DELETE", path, **terms))

    def alloc_contig(self, host: str, wanted: Json, **terms: Unpack[Terms]) -> "documents.AllocatedRange":
        """Take a range: ``{"start_pfn": a, "end_pfn": b}`` or ``{"nr_pages": n, "node": 0}``."""
        return cast(
            "documents.AllocatedRange",
            self.change("POST", f"hosts/{part(host)}/contig-ranges", wanted, **terms),
        )

    def free_contig(self, host: str, range_id: int, **terms: Unpack[Terms]) -> "documents.ContigRange":
        """Give a range back."""
        return cast(
            "documents.ContigRange",
            self.change("DELETE", f"hosts/{part(host)}/contig-ranges/{range_id}", **terms),
        )

    def set_fault(self, host: str, point: str, fault: Json, **terms: Unpack[Terms]) -> "documents.Fault":
        """Arm a fault point: ``{"probability": 100, "times": 3}``."""
        return cast(
            "documents.Fault",
            self.change("PUT", f"hosts/{part(host)}/faults/{part(point)}", fault, **terms),
        )

    def clear_fault(self, host: str, point: str, **terms: Unpack[Terms]) -> None:
        """Disarm a fault point."""
        self.change("DELETE", f"hosts/{part(host)}/faults/{part(point)}", **terms)

    # -- files and what-if ---------------------------------------------------------------------------------

    def look(
        self, host: str, path: str, *, known: str | None = None, max_bytes: int = MAX_ANSWER_BYTES
    ) -> Shown | None:
        """What is at a path of the file mirror; None when the host still has the tag ``known``."""
        headers = {} if known is None else {"If-None-Match": f'"{known}"'}
        answer = self.request("GET", _file(host, path), headers=headers, max_bytes=max_bytes)
        if answer.status_code == HTTPStatus.NOT_MODIFIED:
            if known is None:
                raise BadAnswer(self.url, "unchanged, to who has seen nothing")
            return None
        tag = self._tagged(answer)
        if not answer.headers.get("content-type", "").startswith("application/json"):
            return Shown(tag, answer.content, None)
        entries = self._json(answer).get("entries")
        if not isinstance(entries, list):
            raise BadAnswer(self.url, f"{answer.request.url} lists nothing")
        return Shown(tag, None, entries)

    def _tagged(self, answer: httpx.Response) -> str:
        """The tag of what an answer shows."""
        tag = re.fullmatch(r'"([0-9]{1,19}(?:-[0-9a-f]{1,32})?)"', answer.headers.get("etag", ""))
        if tag is None:
            raise BadAnswer(self.url, f"{answer.request.url} answers without a revision")
        return tag[1]

    def read_file(self, host: str, path: str) -> str:
        """The text of a file, as the kernel prints it.  Raises IsADirectoryError for a folder."""
        shown = self.look(host, path)
        if shown is None or shown.content is None:
            raise IsADirectoryError(path)
        return shown.content.decode()

    def list_dir(self, host: str, path: str) -> list[Json]:
        """The entries of a folder: ``name``, ``type``, ``mode``.  Raises NotADirectoryError for a file."""
        shown = self.look(host, path)
        if shown is None or shown.entries is None:
            raise NotADirectoryError(path)
        return shown.entries

    def write_file(self, host: str, path: str, data: bytes | str) -> str | None:
        """write(2) on a file; what came of it, for the size of a pool: ``requested=64; nr_hugepages=61``."""
        content = data.encode() if isinstance(data, str) else data
        outcome: str | None = self._write(host, path, content).headers.get("hugepool-outcome")
        return outcome

    def write_at(self, host: str, path: str, data: bytes, position: int = 0) -> int:
        """write(2) at a position of the file, as ``>>`` and a second write come; how many bytes were taken."""
        answer = self._write(host, path, data, position)
        taken = answer.headers.get("hugepool-written", str(len(data)))
        if not (taken.isascii() and taken.isdigit() and len(taken) < MAX_DIGITS and int(taken) <= len(data)):
            raise BadAnswer(self.url, f"{answer.request.url} takes more than it was given")
        return int(taken)

    def _write(self, host: str, path: str, data: bytes, position: int = 0) -> httpx.Response:
        headers = {"Content-Type": "application/octet-stream"}
        params = {"position": position} if position else None
        return self.request("PUT", _file(host, path), content=data, headers=headers, params=params)

    # -- what-if and jobs ----------------------------------------------------------------------------------

    def what_if(self, document: bytes | Json, progress: Progress | None = None) -> bytes:
        """Run steps on a throw-away copy; the answer's bytes as the service sent them.

        Long work is waited for.  ``progress``: called now and then with how much is done, of how much.
        """
        return self._ask("/v1/what-if", document, progress)

    def plan(self, host: str, plan: str, question: bytes | Json, progress: Progress | None = None) -> bytes:
        """Ask a plan (``max-pool``, ``savings``, ...) about a host; the answer's bytes, as for ``what_if``."""
        return self._ask(f"/v1/hosts/{part(host)}/plans/{part(plan)}", question, progress)

    def _ask(self, path: str, document: bytes | Json, progress: Progress | None) -> bytes:
        if isinstance(document, bytes):
            headers = {"Content-Type": "application/json"}
            answer = self.request("POST", path, content=document, headers=headers)
        else:
            answer = self.request("POST", path, document)
        if answer.status_code == HTTPStatus.ACCEPTED:
            return self.wait_for(self._json(answer)["id"], progress)
        return answer.content

    def wait_for(self, job_id: str, progress: Progress | None = None) -> bytes:
        """Wait for a job's end, and give its result; an interrupt cancels the job."""
        try:
            while True:
                job = self.job(job_id)
                if progress is not None:
                    progress(job["done"], job["total"])
                if job["ended_at"] is not None:
                    return self.request("GET", f"/v1/jobs/{part(job_id)}/result").content
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            self.cancel_job(job_id)
            raise

    def jobs(self) -> "list[documents.JobRow]":
        """The jobs of the service, oldest first."""
        return cast("documents.JobList", self.get("jobs"))["items"]

    def job(self, job_id: str) -> "documents.Job":
        """How far a job is, and its result once it is done."""
        return cast("documents.Job", self.get(f"jobs/{part(job_id)}"))

    def cancel_job(self, job_id: str) -> "documents.Job":
        """End a job, and forget it."""
        return cast("documents.Job", self.change("DELETE", f"jobs/{part(job_id)}"))


def _headers(token: str) -> dict[str, str]:
    """What every request has; a body that is not compressed is as long as it is said to be."""
    headers = {"Accept-Encoding": "identity"}
    if token:
        if not (token.isascii() and token.isprintable() and " " not in token):
            raise ValueError("the token has letters that no token has")
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _certificates(url: str) -> ssl.SSLContext:
    """Who is trusted to vouch for a service: the system's authorities, or those of ``SSL_CERT_FILE``."""
    if url.startswith("https:"):
        return ssl.create_default_context()
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody, and costs nothing


def _errno_number(number: object) -> int:
    """What a system call may answer with: EIO in place of anything else."""
    return number if isinstance(number, int) and number in errno.errorcode else errno.EIO


def _plain(text: str) -> str:
    """Text of a server as a terminal may show it: what is not printable, as its number."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def part(name: str) -> str:
    """A name as a part of an address."""
    return quote(name, safe="")


def _snapshot(host: str, name: str) -> str:
    """Where a snapshot is."""
    return f"hosts/{part(host)}/snapshots/{part(name)}"


def _pool(host: str, size: str) -> str:
    return f"hosts/{part(host)}/hugepages/{part(size)}"


def _file(host: str, path: str) -> str:
    return f"/v1/hosts/{part(host)}/fs/{quote(path.strip('/'))}"


def given(**fields: Any) -> Json:
    """Those that are not None."""
    return {name: value for name, value in fields.items() if value is not None}
