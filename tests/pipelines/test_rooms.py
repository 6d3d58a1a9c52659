import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines import rooms
from pipelines.cli import app
from simulation import bank as bank_module
from simulation import storage
from simulation.bank import BankPlan, BankRecord, commit_room
from simulation.rooms import RoomBank


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rooms are simulated in this process."""

    def simulated(plan: BankPlan, root: str, missing: list[str], workers: int) -> object:
        splits = {room: split for split, room in plan.rooms}
        return ((room, commit_room(plan, root, splits[room], room)) for room in missing)

    monkeypatch.setattr(bank_module, "_on_ray", simulated)
    monkeypatch.setattr(rooms, "cluster", nullcontext)


def test_the_command_builds_the_bank_that_is_described(tmp_path: Path) -> None:
    """From a JSON file into a store; what is printed is the manifest that a scenario takes, and the digest."""
    bank = RoomBank(rooms=1, positions=1, method="hybrid")
    (tmp_path / "bank.json").write_text(bank.model_dump_json())
    words = ["rooms", str(tmp_path / "bank.json"), "--store", str(tmp_path / "store"), "--rate", "8000", "--seed", "3"]
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert storage.exists(told["manifest"]) and (told["responses"], told["simulated"]) == (3, 3)
    record = BankRecord.parse(storage.read(f"{told['address']}/bank.json"), "bank.json")
    assert (record.plan.bank, record.plan.seed, record.plan.sample_rate) == (bank, 3, 8000)
    assert CliRunner().invoke(app, words).stdout.split() == [told["manifest"], told["digest"]]


def test_a_bank_that_cannot_be_is_answered(tmp_path: Path) -> None:
    """One paragraph that names the field, exit code 2, and nothing is written."""
    (tmp_path / "bank.json").write_text(json.dumps({"rt60": {"low": 0.2, "high": 0.4}}))
    result = CliRunner().invoke(app, ["rooms", str(tmp_path / "bank.json"), "--store", str(tmp_path / "store")])
    assert result.exit_code == 2 and "rt60" in result.output and "Traceback" not in result.output
    assert not (tmp_path / "store").exists()
