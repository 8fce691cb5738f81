"""``python -m tests.attack.instrumented FOLDER``: a service that marks refusals of a request's form.

The service proper answers 422 both to a body that is not as documented and to a machine that is impossible; who
holds it against its document has to tell them apart.
"""

import socket
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError

from hugepool.main import create_app
from hugepool.settings import Settings
from tests.attack.schema.hooks import FORM


def marked(folder: Path) -> FastAPI:
    """The application, with the mark."""
    app = create_app(Settings(database_url=f"sqlite:///{folder / 'hugepool.db'}"))
    plain = app.exception_handlers[RequestValidationError]

    async def invalid(request: Request, error: Exception) -> Response:
        answer: Response = await plain(request, error)  # type: ignore[misc]
        answer.headers[FORM] = "yes"
        return answer

    app.add_exception_handler(RequestValidationError, invalid)
    return app


def main() -> None:
    """Serve on a free port of the loopback, and say which."""
    folder = Path(sys.argv[1])
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        sys.stdout.write(f"http://127.0.0.1:{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        server = uvicorn.Server(uvicorn.Config(marked(folder), log_level="warning"))
        server.run(sockets=[listening])


if __name__ == "__main__":
    main()
