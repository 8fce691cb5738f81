"""Request bodies about devices that give a machine memory."""

from typing import Annotated

from pydantic import Field

from hugepool.forms.fields import NAME_PATTERN, NAME_RULE, Body, NodeId, Size
from hugepool.mm.commands import commands
from hugepool.mm.machine.errors import BadInput
from hugepool.mm.machine.units import PAGE_SIZE

DEVICE_BLOCK = 2 << 20  # bytes: what QEMU takes for guests with transparent huge pages
DeviceId = Annotated[str, Field(pattern=NAME_PATTERN, description=NAME_RULE, examples=["vm0"])]


class VirtioMemBody(Body):
    """A virtio-mem device: how large it can become, and how much of it the machine is to have at once."""

    id: DeviceId
    node: NodeId
    max: Size
    requested: Size
    block_size: Size = DEVICE_BLOCK

    def command(self) -> commands.AddVirtioMem:
        """The command that it stands for."""
        pages = {name: _whole_pages(self, name) for name in ("max", "block_size", "requested")}
        return commands.AddVirtioMem(
            self.id, self.node, pages["max"], pages["block_size"], pages["requested"]
        )


class VirtioMemRequestBody(Body):
    """How much of a virtio-mem device the machine is to have."""

    requested: Size

    def command(self, name: str) -> commands.RequestVirtioMem:
        """The command that it stands for."""
        return commands.RequestVirtioMem(name, _whole_pages(self, "requested"))


def _whole_pages(body: Body, field: str) -> int:
    pages, rest = divmod(getattr(body, field), PAGE_SIZE)
    if rest:
        raise BadInput("must be a multiple of 4 KiB", where=field)
    return int(pages)
