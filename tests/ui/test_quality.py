"""What holds for every page: accessible in light and dark, by keyboard, and with a strict policy."""

from typing import Any

import pytest

from tests.ui.conftest import picture

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: make install")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is missing: make install")
pytestmark = pytest.mark.xdist_group("browser")
# Address, and the text that is there once the page is drawn.
PAGES = [
    ("/ui/?name=web-?", "web-2"),
    ("/ui/hosts/web-1", "600 are surplus"),
    ("/ui/compare?hosts=web-0,web-1&counts=700&run=1", "All figures"),
    ("/ui/plans?host=web-1&plan=max-pool&run=1", "stay available."),
    ("/ui/import", "Boot a machine"),
]


def serious(page: Any, **options: Any) -> list[str]:
    """What axe-core finds to be serious or worse, with the elements."""
    found = axe.Axe().run(page, options={"resultTypes": ["violations"], **options}).response["violations"]
    return [
        f"{each['id']}: {[node['html'][:150] for node in each['nodes'][:3]]}"
        for each in found
        if each["impact"] in {"serious", "critical"}
    ]


@pytest.mark.parametrize(("address", "text"), PAGES)
def test_axe_finds_nothing_serious_in_light_and_dark(page: Any, address: str, text: str) -> None:
    page.goto(address)
    page.get_by_text(text).first.wait_for()
    for summary in page.locator("summary").all():
        summary.click()
    assert serious(page) == []
    page.emulate_media(color_scheme="dark")
    assert serious(page, runOnly=["color-contrast"]) == []
    path, _, _ = address.partition("?")
    picture(page, f"dark-{path.strip('/').replace('/', '-')}")
