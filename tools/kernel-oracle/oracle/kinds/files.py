"""Reading and writing files of the guest."""

from oracle.guest import Guest
from oracle.steps import Answer, Fields, answer, by_task, kind, long_path, write

SQUEEZE_FILES = (
    "2M/nr_hugepages",
    "2M/free_hugepages",
    "2M/surplus_hugepages",
    "2M/resv_hugepages",
    "vm/nr_hugepages",
)


@kind("write", "path data", {"task": None})
def _write(guest: Guest, op: Fields, timeout: float) -> Answer:
    if "task" in op:
        return answer(by_task(guest, op, timeout, "write", op["path"], op["data"]))
    return write(guest, op["path"], op["data"], timeout)


@kind("writes", "writes")
def _writes(guest: Guest, op: Fields, timeout: float) -> Answer:
    words = [word for one in op["writes"] for word in (long_path(one["path"]), one["data"])]
    reply = guest.call("writes", *words, timeout=timeout)
    rows = [line.split("\t") for line in reply.text.splitlines()]
    done = [{"path": r[0], "data": r[1], "result": int(r[2]), "errno_number": int(r[3])} for r in rows]
    return answer(reply, writes=done)


@kind("read", "path", reads_out=False)
def _read(guest: Guest, op: Fields, timeout: float) -> Answer:
    reply = guest.call("read", op["path"], timeout=timeout)
    return answer(reply, data=reply.text if reply.result >= 0 else None)


@kind("squeeze", "min_free_kbytes path data")
def _squeeze(guest: Guest, op: Fields, timeout: float) -> Answer:
    """Raise min_free_kbytes, write, read the pool's files, and put min_free_kbytes back: in one go."""
    files = [long_path(path) for path in SQUEEZE_FILES]
    reply = guest.call("squeeze", op["min_free_kbytes"], op["path"], op["data"], *files, timeout=timeout)
    return answer(reply, observed=squeezed(reply.text))


def squeezed(text: str) -> Fields:
    """What the agent saw meanwhile: zones at the write and after it, files, and the writes of min_free_kbytes."""
    observed: Fields = {"zones_at_write": {}, "zones_after": {}, "during": {}}
    for words in map(str.split, text.splitlines()):
        match words:
            case ["zone" | "zone_after" as when, node, zone, *pairs]:
                cells = {name: int(value) for name, value in zip(pairs[::2], pairs[1::2], strict=True)}
                observed["zones_at_write" if when == "zone" else "zones_after"][f"{node}/{zone}"] = cells
            case ["during", path, value, *_]:
                observed["during"][path] = int(value)
            case ["min_free_write", result, number, "restore", restored]:
                written = {"ret": int(result), "errno": int(number), "restore": int(restored)}
                observed["min_free_write"] = written
    return observed


@kind("unlink", "path")
def _unlink(guest: Guest, op: Fields, timeout: float) -> Answer:
    return answer(guest.call("unlink", op["path"], timeout=timeout))
