from pathlib import Path

import pytest

from simulation.errors import BadSetting
from simulation.home import Home


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and no variable of ours."""
    for name in ["UNMUFFLE_HOME", "UNMUFFLE_STORE", "MLFLOW_TRACKING_URI"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_home_is_a_folder_of_the_working_folder(tmp_path: Path) -> None:
    """Where nothing is said; all it keeps lies inside."""
    home = Home.current()
    assert home.path == tmp_path / ".unmuffle"
    assert home.store == f"file://{tmp_path}/.unmuffle/store"
    assert home.tracking_uri == f"sqlite:///{tmp_path}/.unmuffle/mlflow.db"
    assert home.ray == tmp_path / ".unmuffle" / "ray"


def test_asking_for_the_home_creates_nothing(tmp_path: Path) -> None:
    """Looking at a set-up must not change it."""
    home = Home.current()
    assert home.store and home.tracking_uri and home.ray
    assert list(tmp_path.iterdir()) == []


def test_a_relative_home_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers and tasks run in other folders."""
    monkeypatch.setenv("UNMUFFLE_HOME", "some/where")
    home = Home.current()
    monkeypatch.chdir("/")
    assert home.path == tmp_path / "some" / "where"
    assert home.store == f"file://{tmp_path}/some/where/store"


def test_an_empty_variable_is_one_that_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As shells leave them behind."""
    for name in ["UNMUFFLE_HOME", "UNMUFFLE_STORE", "MLFLOW_TRACKING_URI"]:
        monkeypatch.setenv(name, "")
    home = Home.current()
    assert home.path == tmp_path / ".unmuffle"
    assert home.store.endswith("/.unmuffle/store") and home.tracking_uri.endswith("/.unmuffle/mlflow.db")


def test_store_and_tracking_can_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket, a path that is made an address, a tracking server."""
    monkeypatch.setenv("UNMUFFLE_STORE", "s3://bucket/unmuffle/")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert Home.current().store == "s3://bucket/unmuffle"
    assert Home.current().tracking_uri == "http://mlflow:5000"
    monkeypatch.setenv("UNMUFFLE_STORE", "data")
    assert Home.current().store == f"file://{tmp_path}/data"


def test_a_store_that_is_no_address_is_a_bad_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is written anywhere."""
    monkeypatch.setenv("UNMUFFLE_STORE", "gs://bucket")
    with pytest.raises(BadSetting, match="gs://bucket"):
        assert Home.current().store


def test_a_file_is_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable to mend is named."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNMUFFLE_HOME", "file")
    with pytest.raises(BadSetting, match=r"UNMUFFLE_HOME is .*/file, which is a file"):
        Home.current()
