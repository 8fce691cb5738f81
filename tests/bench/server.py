"""The service on a real uvicorn in its own process, next to a bare FastAPI application to compare with.

As a program (``python -m tests.bench.server FILE``) it listens on a free loopback port and prints its number.
Paths below ``/bare`` go to the bare application: it answers with the bytes that it was last sent.
"""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hugepool.main import create_app
from tests.bench.machines import settings_of

LOOPBACK = "127.0.0.1"
PATIENCE_SECONDS = 20
JSON = "application/json"


@contextmanager
def serving(database: Path) -> Iterator[int]:
    """The port of a running service; the process is stopped, by its id, afterwards."""
    command = [sys.executable, "-m", "tests.bench.server", str(database)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        yield int(line)
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def bare() -> FastAPI:
    """Routes that do nothing but answer: a coroutine, and a function that runs in a thread as the service's do."""
    app = FastAPI()
    content = {"bytes": b""}

    @app.put("/bare/content", status_code=204)
    async def keep(request: Request) -> None:
        content["bytes"] = await request.body()

    @app.get("/bare/coroutine")
    async def coroutine() -> Response:
        return Response(content["bytes"], media_type=JSON)

    @app.get("/bare/thread")
    def thread() -> Response:
        return Response(content["bytes"], media_type=JSON)

    return app


class Side:
    """Sends paths below ``/bare`` to one application and all else, start and stop included, to another."""

    def __init__(self, service: ASGIApp, beside: ASGIApp) -> None:
        self.service = service
        self.beside = beside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        app = self.beside if scope.get("path", "").startswith("/bare/") else self.service
        await app(scope, receive, send)


def _main(database: str) -> None:
    app = Side(create_app(settings_of(Path(database))), bare())
    config = uvicorn.Config(app, log_level="warning", access_log=False)
    with socket.create_server((LOOPBACK, 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    _main(*sys.argv[1:])
