"""The file of tokens: what it may say, and when it is read again."""

import hashlib
import hmac
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hugepool import access
from hugepool.access import Caller, Role, Tokens, WrongTokensFile, digest_of, line_of, new_token

SHA = "0" * 64


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def test_a_token_is_found_with_its_name_role_and_hosts(file: Path) -> None:
    reader, writer = new_token(), new_token()
    lines = ["# who may do what", "", line_of(Caller("grafana", Role.READ), reader),
             line_of(Caller("ci@build-7", Role.WRITE, "ci-*"), writer)]  # fmt: skip
    file.write_text("\n".join(lines))
    tokens = Tokens(file)
    assert tokens.find(reader) == Caller("grafana", Role.READ, "*")
    assert tokens.find(writer) == Caller("ci@build-7", Role.WRITE, "ci-*")
    for other in ("", new_token(), reader[:-1], f"{reader}x", digest_of(reader)):
        assert tokens.find(other) is None


def test_only_the_hash_of_a_token_is_in_the_file() -> None:
    token = new_token()
    line = line_of(Caller("ops", Role.ADMIN), token)
    assert line == f"ops admin {hashlib.sha256(token.encode()).hexdigest()}"
    assert token not in line
    assert len(token) > 43  # 256 bits and the prefix
    assert token != new_token()


@pytest.mark.parametrize(
    ("caller", "changes"),
    [
        (Caller("a", Role.READ), set()),
        (Caller("a", Role.WRITE), {"web-1", "db"}),
        (Caller("a", Role.WRITE, "web-*"), {"web-1"}),
        (Caller("a", Role.WRITE, "[!w]?"), {"db"}),
        (Caller("a", Role.ADMIN), {"web-1", "db"}),
    ],
)
def test_a_role_and_a_pattern_say_which_hosts_may_be_changed(caller: Caller, changes: set[str]) -> None:
    assert {host for host in ("web-1", "db") if caller.may_change(host)} == changes


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it names no token; make one with: hugepool token new NAME"),
        ("# nothing\n", "it names no token"),
        ("ops admin", "line 1: a line is a name, a role, a SHA-256"),
        (f"ops admin {SHA} * x", "line 1: a line is a name"),
        (f"\nops root {SHA}", "line 2: the role is 'root', not read, write or admin"),
        (f"ops Admin {SHA}", "the role is 'Admin'"),
        (f"-ops admin {SHA}", "the name '-ops' is not"),
        (f"{'o' * 65} admin {SHA}", "is not 1 to 64"),
        ("ops admin hugepool_secret", "the SHA-256 of ops is not 64 digits"),
        (f"ops admin {'A' * 64}", "the SHA-256 of ops is not 64 digits of 0-9 and a-f"),
        (f"ops admin {SHA} web-*", "line 1: ops has the role admin, so hosts mean nothing"),
        (f"ops read {SHA} web-*", "ops has the role read"),
        (f"ops write {SHA} web/*", "'web/*' is no pattern"),
        (f"ops write {SHA}\nops read {'1' * 64}", "line 2: the name ops or its token is there already"),
        (f"ops write {SHA}\ndev read {SHA}", "line 2: the name dev or its token is there already"),
        ("ops admin \u0660", "it is not plain ASCII"),
        (
            f"ops admin {SHA}\n" + "#" * access.MAX_FILE_BYTES,
            f"it has more than {access.MAX_FILE_BYTES} bytes",
        ),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_one_sentence(file: Path, text: str, why: str) -> None:
    file.write_text(text)
    with pytest.raises(WrongTokensFile) as caught:
        Tokens(file)
    assert why in str(caught.value)
    assert str(caught.value).startswith(f"the tokens file {file} is wrong: ")
    assert str(caught.value).isprintable()
    assert "secret" not in str(caught.value)


def _missing(file: Path) -> None:
    del file


def _folder(file: Path) -> None:
    file.mkdir()


def _writable(file: Path) -> None:
    file.write_text(f"ops admin {SHA}")
    file.chmod(0o664)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_missing, "cannot be read: No such file or directory"),
        (_folder, "cannot be read: Is a directory"),
        (_writable, "others than its owner can write it (mode 0664)"),
    ],
)
def test_a_file_that_cannot_be_read_or_trusted_is_refused(
    file: Path, make: Callable[[Path], None], why: str
) -> None:
    make(file)
    with pytest.raises(WrongTokensFile) as caught:
        Tokens(file)
    assert why in str(caught.value)


def test_a_changed_file_is_read_again_within_a_second(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    old, new, clock = new_token(), new_token(), Clock()
    file.write_text(line_of(Caller("old", Role.READ), old))
    tokens = Tokens(file, clock)
    file.write_text(line_of(Caller("new", Role.READ), new))
    assert tokens.find(old) is not None  # not looked yet
    clock.now = access.LOOK_SECONDS
    assert tokens.find(old) is None
    assert tokens.find(new) is not None


def test_a_file_that_becomes_wrong_or_goes_leaves_the_tokens_as_they_are(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token, clock = new_token(), Clock()
    file.write_text(line_of(Caller("ops", Role.ADMIN), token))
    tokens = Tokens(file, clock)
    for change, why in ((lambda: file.write_text("ops admin"), "line 1"), (file.unlink, "No such file")):
        caplog.clear()
        change()
        for _ in range(3):
            clock.now += access.LOOK_SECONDS
            assert tokens.find(token) is not None
        (record,) = caplog.records
        assert why in record.message
        assert "stay valid" in record.message
    assert token not in caplog.text


def test_every_line_is_compared_in_constant_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, last = new_token(), new_token()
    others = [line_of(Caller(f"n{i}", Role.READ), new_token()) for i in range(5)]
    file.write_text(
        "\n".join([line_of(Caller("a", Role.READ), first), *others, line_of(Caller("z", Role.READ), last)])
    )
    tokens, compared, compare = Tokens(file), [], hmac.compare_digest

    def counting(left: str, right: str) -> bool:
        compared.append((left, right))
        return compare(left, right)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    for token in (first, last, new_token()):
        compared.clear()
        tokens.find(token)
        assert len(compared) == 7  # the first that fits ends nothing


def test_the_command_shows_a_token_once_and_prints_its_line(file: Path) -> None:
    for name, more in (
        ("ci", ["--role", "write", "--hosts", "ci-*"]),
        ("ops", ["--role", "admin"]),
        ("see", []),
    ):
        done = _token_new(name, *more)
        assert done.returncode == 0, done.stderr
        with file.open("a") as stream:
            stream.write(done.stdout)
        token = done.stderr.split(": ")[1].strip()
        assert token not in done.stdout
        assert Tokens(file).find(token) is not None
    assert Tokens(file).find(token) == Caller("see", Role.READ)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["no name"], "the name 'no name'"),
        (["see", "--hosts", "web-*"], "see has the role read, so hosts mean nothing"),
        (["ci", "--role", "write", "--hosts", "a b"], "'a b' is no pattern of host names"),
        (["ci", "--role", "root"], "root"),
    ],
)
def test_the_command_refuses_what_the_file_would_not_take(arguments: list[str], why: str) -> None:
    done = _token_new(*arguments)
    assert done.returncode in (1, 2)
    assert why in done.stderr
    assert done.stdout == ""


def _token_new(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "hugepool", "token", "new", *arguments],
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
