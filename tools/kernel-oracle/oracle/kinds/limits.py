"""Page cache, cgroups and mounts of hugetlbfs."""

from oracle.guest import Guest
from oracle.kernels import OracleError
from oracle.steps import Answer, Fields, answer, kind, write

CGROUPS = "/sys/fs/cgroup"
FILE, DEVICE, WRITTEN = 0, 1, 2  # the agent's numbers


@kind("cache-fill", "mib", {"of": "file", "dirty": False, "cpu": None, "times": None})
def _cache_fill(guest: Guest, op: Fields, timeout: float) -> Answer:
    """Read (``dirty``: write) ``mib`` MiB that were not read before; the machine needs a ``disk``.

    ``of``: "file", a file's page cache (Cached; movable), or "device", the device's (Buffers; not movable).
    ``cpu``: the processor that reads, whose node is asked for memory first.  ``times``: how often each is read.
    """
    if op["of"] not in {"file", "device"} or (op["dirty"] and op["of"] == "device"):
        raise OracleError("cache-fill: of is file (clean or dirty) or device (clean)")
    if not guest.machine.disk:
        raise OracleError("cache-fill: the scenario has no disk (disk: 8G)")
    which = WRITTEN if op["dirty"] else DEVICE if op["of"] == "device" else FILE
    args = (which, op["mib"], timeout, op.get("cpu", -1), op.get("times", 1))
    return answer(guest.call("cache-fill", *args, timeout=timeout + 30))


@kind("cgroup", "path action")
def _cgroup(guest: Guest, op: Fields, timeout: float) -> Answer:
    """``action``: create (the first mounts cgroup2; the parents pass the hugetlb controller on) or remove."""
    if op["action"] not in {"create", "remove"}:
        raise OracleError(f"cgroup: action is create or remove, not {op['action']!r}")
    return answer(guest.call("cgroup", op["action"], op["path"], timeout=timeout))


@kind("cgroup-write", "path file data")
def _cgroup_write(guest: Guest, op: Fields, timeout: float) -> Answer:
    return write(guest, f"{CGROUPS}/{op['path']}/{op['file']}", op["data"], timeout)


@kind("cgroup-read", "path file", reads_out=False)
def _cgroup_read(guest: Guest, op: Fields, timeout: float) -> Answer:
    reply = guest.call("read", f"{CGROUPS}/{op['path']}/{op['file']}", timeout=timeout)
    return answer(reply, data=reply.text if reply.result >= 0 else None)


@kind("cgroup-move", "task cgroup")
def _cgroup_move(guest: Guest, op: Fields, timeout: float) -> Answer:
    return answer(guest.call("cgroup-move", op["task"], op["cgroup"], timeout=timeout))


@kind("hugetlbfs-mount", "path", {"pagesize_kb": 2048, "size": None, "min_size": None})
def _hugetlbfs_mount(guest: Guest, op: Fields, timeout: float) -> Answer:
    """A hugetlbfs on a folder below /mnt; ``size`` and ``min_size`` as mount takes them (20M, 50%)."""
    limits = [f"{word}={op[word]}" for word in ("size", "min_size") if word in op]
    options = ",".join([f"pagesize={op['pagesize_kb']}K", *limits])
    return answer(guest.call("hugetlbfs-mount", op["path"], options, timeout=timeout))


@kind("umount", "path")
def _umount(guest: Guest, op: Fields, timeout: float) -> Answer:
    return answer(guest.call("umount", op["path"], timeout=timeout))
