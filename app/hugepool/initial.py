"""The hosts that a service begins with: files of a folder, read before it is ready."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from hugepool.api.hosts import source_of
from hugepool.forms.bodies import HostBody
from hugepool.forms.validation import in_words
from hugepool.mm.machine.errors import MMError
from hugepool.service import Service, Terms

MAX_BYTES = 64 << 20  # of one file: that of a body with a machine's files
TAKEN = "EEXIST"


class WrongInitFolder(Exception):
    """The folder or a file in it cannot be used.  The message names the file, the field and the reason."""


def make_hosts(service: Service, folder: Path | None) -> list[str]:
    """Make the hosts of every ``*.json`` in a folder, in order of the names of the files; those that are new.

    A file is the body of ``POST /v1/hosts``, or a list of them.  A host whose name is taken is left as it is: the
    database outlives a restart.

    Raises:
        WrongInitFolder: at the first file that is wrong; hosts that were made before it stay.
    """
    if folder is None:
        return []
    if not folder.is_dir():
        raise WrongInitFolder(f"HUGEPOOL_INIT_DIR: {folder} is not a folder")
    made: list[str] = []
    for file in sorted(folder.glob("*.json")):
        made.extend(body.name for body in _bodies(file) if _make(service, file, body))
    return made


def _bodies(file: Path) -> list[HostBody]:
    document = _document(file)
    listed = document if isinstance(document, list) else [document]
    return [_body(file, one) for one in listed]


def _document(file: Path) -> Any:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise WrongInitFolder(f"{file}: has more than {MAX_BYTES >> 20} MiB")
        return from_json(file.read_bytes())
    except OSError as error:
        raise WrongInitFolder(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise WrongInitFolder(f"{file}: is not JSON: {error}") from None


def _body(file: Path, document: Any) -> HostBody:
    try:
        return HostBody.model_validate(document)
    except ValidationError as error:
        first = in_words(error, document).errors[0]
        raise WrongInitFolder(f"{file}: {first['field']}: {first['message']}") from None


def _make(service: Service, file: Path, body: HostBody) -> bool:
    """Whether it was made; not where the name is taken."""
    try:
        service.create(body.name, source_of(body), Terms(), None, body.labels)
    except MMError as refusal:
        if refusal.errno == TAKEN:
            return False
        raise WrongInitFolder(f"{file}: host {body.name!r}: {refusal.detail}") from None
    return True
