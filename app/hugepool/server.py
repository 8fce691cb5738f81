"""Serving the application: the server around it, with limits on connections and an orderly stop."""

import logging
import os
import signal

import uvicorn

from hugepool.api.connections import bounded
from hugepool.api.guard import reaches_beyond
from hugepool.initial import make_hosts
from hugepool.main import create_app
from hugepool.settings import Settings, unknown_variables

LOG = logging.getLogger("uvicorn.error")  # where the server's own messages go


def serve(settings: Settings) -> bool:
    """Serve until a signal comes; whether it came up.

    SIGTERM and SIGINT let open requests go on for ``shutdown_seconds``; a second signal ends them at once.
    SIGHUP reads the file of tokens again.

    Raises:
        StoreFailure: the database cannot be used; nothing was served.  WrongTokensFile: nor the file of tokens.
        WrongInitFolder: nor the hosts to begin with.
    """
    application = create_app(settings)
    application.state.service.start()  # what cannot be opened is said in one line
    make_hosts(application.state.service, settings.init_dir)
    config = uvicorn.Config(
        application,
        host=settings.host,
        port=settings.port,
        http=bounded(settings),  # type: ignore[arg-type]  # a protocol class, as uvicorn's own options are
        ws="none",
        log_level=settings.log_level.lower(),
        timeout_graceful_shutdown=settings.shutdown_seconds,
        server_header=False,
    )
    server = uvicorn.Server(config)
    application.state.streams.stopping = lambda: server.should_exit
    warn_if_open(settings)
    for sentence in unknown_variables(os.environ):
        LOG.warning("%s", sentence)
    if application.state.tokens is not None:
        signal.signal(signal.SIGHUP, lambda *_: application.state.tokens.reload())
    server.run()
    return server.started


def warn_if_open(settings: Settings) -> None:
    """Say so when others than this machine may do everything."""
    if settings.tokens_file is None and reaches_beyond(settings.host):
        LOG.warning(
            "%s can be reached from other machines, and without HUGEPOOL_TOKENS_FILE everybody may do everything",
            settings.host,
        )
