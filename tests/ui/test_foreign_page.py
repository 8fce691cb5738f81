"""A page of somebody else in a real browser: it changes nothing here and reads nothing."""

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ui.conftest import boot

POOL = "/v1/hosts/victim/hugepages/2048kB/nr_hugepages"
# Every way by which a page can send something to another origin without being asked; each says how it ended.
ATTACKS = """
async ({url, pool, host}) => {
  const bodies = ['{"count": 7}', new Blob(['{"count": 7}'], {type: 'text/plain'})];
  const tries = [];
  for (const mode of ['cors', 'no-cors']) {
    for (const method of ['PUT', 'POST', 'PATCH', 'DELETE']) {
      for (const type of ['application/json', 'text/plain']) {
        const body = method === 'DELETE' ? undefined : bodies[0];
        tries.push(fetch(url + pool, {method, mode, body, headers: {'Content-Type': type}}));
      }
    }
    tries.push(fetch(url + host, {method: 'DELETE', mode}));
    tries.push(fetch(url + '/v1/hosts', {mode}).then(answer => answer.text()));
  }
  navigator.sendBeacon(url + '/v1/hosts', bodies[1]);
  const ended = await Promise.allSettled(tries);
  return ended.map(one => one.status === 'fulfilled' && typeof one.value === 'string' ? one.value : '');
}
"""
FORM = """
<form id="f" method="post" enctype="text/plain" action="{url}/v1/hosts">
<input name='{{"name": "evil", "spec": {{"nodes": [{{"memory": "1G"}}]}}, "x": "' value='"}}'></form>
<iframe src="{url}/ui/"></iframe>
"""


@pytest.fixture
def foreign(tmp_path: Path, service: httpx.Client) -> Iterator[str]:
    """The address of a page on another port of the loopback: the same machine, another origin."""
    (tmp_path / "index.html").write_text(FORM.format(url=service.base_url))
    handler = partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def state(service: httpx.Client) -> Any:
    """All hosts and their revisions."""
    return service.get("/v1/hosts").json()


def test_a_foreign_page_changes_and_reads_nothing(browser: Any, service: httpx.Client, foreign: str) -> None:
    boot(service, "victim")
    before, page = state(service), browser.new_page()
    try:
        page.goto(foreign)
        address = {"url": str(service.base_url).rstrip("/"), "pool": POOL, "host": "/v1/hosts/victim"}
        assert set(page.evaluate(ATTACKS, address)) == {""}, "a page read what another origin answers"
        assert page.frames[1].url != f"{address['url']}/ui/" or page.frames[1].content().count("victim") == 0
        with page.expect_navigation():
            page.evaluate("document.getElementById('f').submit()")
        assert "415" in page.content() or "403" in page.content()
    finally:
        page.close()
    assert state(service) == before
    service.delete("/v1/hosts/victim")
