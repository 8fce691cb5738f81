"""Processes of the guest, and the memory that they take."""

from oracle.guest import Guest
from oracle.kernels import OracleError
from oracle.steps import Answer, Fields, answer, by_task, kind

POLICIES = {"default": 0, "preferred": 1, "bind": 2, "interleave": 3, "local": 4}
NORMAL = 2  # index of the highest zone that a kernel allocation may use
ANY_NODE = -1
KILLED_FIRST = 1000  # oom_score_adj


@kind("start", "task", {"oom_score_adj": None, "cgroup": None})
def _start(guest: Guest, op: Fields, timeout: float) -> Answer:
    reply = guest.call("start", op["task"], op.pop("oom_score_adj", KILLED_FIRST), timeout=timeout)
    if "cgroup" in op and reply.result >= 0:
        moved = guest.call("cgroup-move", op["task"], op["cgroup"], timeout=timeout)
        if moved.result < 0:
            return answer(moved)
    return answer(reply)


@kind("fork", "task child")
def _fork(guest: Guest, op: Fields, timeout: float) -> Answer:
    return answer(guest.call("fork", op["task"], op["child"], timeout=timeout))


@kind("exit", "task")
def _exit(guest: Guest, op: Fields, timeout: float) -> Answer:
    return answer(guest.call("exit", op["task"], timeout=timeout))


@kind("mempolicy", "task mode nodemask")
def _mempolicy(guest: Guest, op: Fields, timeout: float) -> Answer:
    if op["mode"] not in POLICIES:
        raise OracleError(f"mempolicy: mode is one of {', '.join(POLICIES)}, not {op['mode']!r}")
    mask = op["nodemask"] if isinstance(op["nodemask"], str) else hex(op["nodemask"])
    return answer(by_task(guest, op, timeout, "mempolicy", POLICIES[op["mode"]], mask), nodemask=mask)


@kind("run-on-cpu", "task cpu", reads_out=False)
def _run_on_cpu(guest: Guest, op: Fields, timeout: float) -> Answer:
    return answer(by_task(guest, op, timeout, "run-on-cpu", op["cpu"]))


@kind("anon-map", "task mib", {"mlock": True, "thp": False, "node": None}, reads_out=False)
def _anon_map(guest: Guest, op: Fields, timeout: float) -> Answer:
    flags = ("l" if op["mlock"] else "") + ("t" if op["thp"] else "")
    return answer(by_task(guest, op, timeout, "anon-map", op["mib"], flags, op.get("node", ANY_NODE)))


@kind("anon-pin", "task", {"pages": None})
def _anon_pin(guest: Guest, op: Fields, timeout: float) -> Answer:
    """A long-term pin (a buffer of io_uring) of what the process has touched, or of its first pages."""
    pages = [op["pages"]] if "pages" in op else []
    reply = by_task(guest, op, timeout, "anon-pin", *pages)
    return answer(reply, pages=reply.result)


@kind("kernel-map", "task mib", reads_out=False)
def _kernel_map(guest: Guest, op: Fields, timeout: float) -> Answer:
    return answer(by_task(guest, op, timeout, "kernel-map", op["mib"]))


@kind("anon-grow", "task", {"pages": None, "until": None})
@kind("kernel-grow", "task", {"pages": None, "until": None})
def _grow(guest: Guest, op: Fields, timeout: float) -> Answer:
    """Take a number of pages, or pages until a condition holds; how many is recorded."""
    what = op["do"].removesuffix("-grow")
    if "until" not in op:
        return answer(by_task(guest, op, timeout, f"{what}-grow", op["pages"]))
    goal, args = _goal(op["until"])
    reply = by_task(guest, op, timeout, f"{what}-until", *args)
    return answer(reply, until=goal, pages=reply.result)


def _goal(until: Fields) -> tuple[Fields, tuple[int, int, int]]:
    """A condition as it is recorded, and as the agent takes it: node, zone (or -1: page cache), pages."""
    node = until.get("node")
    if "file_pages_at_most" in until:
        pages, zone = until["file_pages_at_most"], -1
        goal = {"node": node, "file_pages_at_most": pages}
    else:
        pages, zone = until["at_most"], until.get("allocatable_for_zone_index", NORMAL)
        goal = {"node": node, "allocatable_for_zone_index": zone, "at_most": pages}
    return goal, (ANY_NODE if node is None else node, zone, pages)


@kind("anon-shrink", "task", {"pages": None})
@kind("kernel-shrink", "task", {"pages": None})
def _shrink(guest: Guest, op: Fields, timeout: float) -> Answer:
    pages = [op["pages"]] if "pages" in op else []
    reply = by_task(guest, op, timeout, op["do"], *pages)
    return answer(reply, pages=reply.result)


@kind("kernel-thin", "task keep_of_256")
def _kernel_thin(guest: Guest, op: Fields, timeout: float) -> Answer:
    reply = by_task(guest, op, timeout, "kernel-thin", op["keep_of_256"])
    return answer(reply, pages=reply.result)
