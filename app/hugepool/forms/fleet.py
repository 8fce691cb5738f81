"""Request bodies about many hosts."""

from collections import Counter
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from hugepool.forms.bodies import SpecBody, one_of
from hugepool.forms.fields import NAME, NAME_RULE, Body, HostName, Labels, Text, Whole, refuse

MAX_NEW_HOSTS = 1000
MAX_ENTRIES = 100
NUMBER = "{i}"
TEMPLATE = r"^[a-z0-9-]*(\{i\}[a-z0-9-]*)?$"
State = Literal["surplus-stuck", "pool-short", "fault-armed", "deferred-queued", "node-full"]


class HostsBody(Body):
    """Hosts of one machine: `count` of them, whose names have their number in place of `{i}`."""

    model_config = ConfigDict(json_schema_extra=lambda schema: one_of(schema, "spec", "fork_of"))

    name: Annotated[Text, Field(min_length=1, max_length=63, pattern=TEMPLATE, examples=["web-{i}"])]
    count: Annotated[Whole, Field(ge=1, le=MAX_NEW_HOSTS)] = 1
    first: Annotated[Whole, Field(ge=0, lt=2**31, description="Number of the first one.")] = 0
    spec: SpecBody | None = None
    fork_of: HostName | None = None
    labels: Labels = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> "HostsBody":
        if (self.spec is None) == (self.fork_of is None):
            raise refuse("origin", "must have exactly one of spec and fork_of")
        if self.count > 1 and NUMBER not in self.name:
            raise refuse("template", f"must have {NUMBER} in name when count is more than 1")
        if any(not NAME.fullmatch(name) for name in (self.names()[0], self.names()[-1])):
            raise refuse("host_name", f"makes a name that no host can have: it {NAME_RULE}")
        return self

    def names(self) -> list[str]:
        """The names of all of them."""
        return [self.name.replace(NUMBER, str(self.first + i)) for i in range(self.count)]


class FleetBody(Body):
    """New hosts, all of them or none."""

    hosts: Annotated[list[HostsBody], Field(min_length=1, max_length=MAX_ENTRIES)]

    @model_validator(mode="after")
    def _check(self) -> "FleetBody":
        names = Counter(name for entry in self.hosts for name in entry.names())
        if names.total() > MAX_NEW_HOSTS:
            raise refuse("fleet", f"makes {names.total()} hosts; at most {MAX_NEW_HOSTS} are made at once")
        name, times = names.most_common(1)[0]
        if times > 1:
            raise refuse("fleet", f"names {name!r} {times} times")
        return self


class FilterBody(Body):
    """Which hosts: all that every part fits; all there are, without one."""

    name: Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9*?-]+$", examples=["web-*"])] | None = None
    kernel: Annotated[str, Field(max_length=20)] | None = None
    labels: Labels = Field(default_factory=dict)
    states: list[State] = Field(default_factory=list, max_length=10, description="Any one of them.")
