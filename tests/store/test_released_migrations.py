"""A migration that has left the house is never changed again: databases out there have run it as it was."""

from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "tests" / "data" / "migrations.sha256"  # as sha256sum writes it
HOW = (
    "a released migration was changed: put it back and write another one; "
    f"a new one is entered with: sha256sum migrations/versions/NEW.py >> {RECORD.relative_to(ROOT)}"
)


def test_every_migration_has_the_hash_that_was_recorded() -> None:
    recorded = {path: digest for digest, path in (line.split() for line in RECORD.read_text().splitlines())}
    found = {
        str(file.relative_to(ROOT)): sha256(file.read_bytes()).hexdigest()
        for file in (ROOT / "migrations" / "versions").glob("*.py")
    }
    assert found == recorded, HOW


def test_the_record_is_in_order_and_names_no_file_twice() -> None:
    paths = [line.split()[1] for line in RECORD.read_text().splitlines()]
    assert paths == sorted(set(paths))
