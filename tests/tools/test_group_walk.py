"""The oracle's walk over cgroups and hugetlbfs, with the model in the kernel's place: no guest is needed."""

import random
from typing import Any, cast

import pytest

from hugepool.replay.player import Player
from hugepool.replay.trace import Step, Trace
from oracle.group_walk import WEIGHTS, GroupWalk
from oracle.recorder import Recorder
from oracle.steps import checked
from tests.mm.hosts import GIB, assert_laws, machine


class Model:
    """Answers steps as a recorder does."""

    def __init__(self, kernel: str) -> None:
        host = machine(2 * GIB, kernel=kernel)
        self.trace: dict[str, Any] = {"steps": []}
        self.player = Player(
            host, Trace("walk", kernel, "", True, "2G", [], 1, None, None, []), agent_pages=10
        )

    def step(self, asked: dict[str, Any]) -> dict[str, Any]:
        op = {"offset": 0, **checked(asked)}
        played = self.player.play(Step(len(self.trace["steps"]), op, None, None, "", None))
        self.trace["steps"].append({"op": op, "errno": played.errno})
        assert_laws(self.player.host)
        return {"errno": played.errno}


@pytest.mark.parametrize("kernel", ["5.14", "6.12", "6.18"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_walk_asks_every_kind_and_the_laws_hold(kernel: str, seed: int) -> None:
    model = Model(kernel)
    GroupWalk(cast(Recorder, model), random.Random(seed)).run(150)
    kinds = {step["op"]["do"] for step in model.trace["steps"]}
    assert kinds >= {"huge-map", "huge-touch", "huge-read", "huge-file", "fork", "cgroup-write", "umount"}
    errors = {step["errno"] for step in model.trace["steps"]}
    assert errors >= {None, "ENOMEM", "EINVAL"}
    assert not model.player.host.tasks


def test_every_action_has_a_method() -> None:
    assert [name for name in WEIGHTS if not callable(getattr(GroupWalk, name, None))] == []
