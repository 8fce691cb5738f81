"""A few of each attack.  ``make attack`` does many of them."""

import pytest

from tests.attack import __main__ as campaign
from tests.attack import fuzz


@pytest.mark.parametrize("attack", list(campaign.ATTACKS))
def test_an_attack_fails(attack: str) -> None:
    (report,) = campaign.run(campaign.options([attack, "--short"]))
    if report.skipped is not None:
        pytest.skip(report.skipped)
    assert report.figures, "nothing was done"
    assert report.failures == []


def test_the_same_seed_makes_the_same_requests() -> None:
    first, second, other = (list(fuzz.requests(50, seed)) for seed in (1, 1, 2))
    assert first == second != other


def test_what_is_asked_for_replaces_the_sizes() -> None:
    assert campaign.options(["--short"]).kills == campaign.SIZES["kills"][1]
    assert campaign.options([]).kills == 1000
    assert campaign.options(["kills", "--short", "--kills", "3"]).kills == 3
    with pytest.raises(SystemExit):
        campaign.options(["nonsense"])
