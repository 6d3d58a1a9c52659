"""Where unmuffle keeps what lasts: one folder, UNMUFFLE_HOME, by default `./.unmuffle`."""

import os
from dataclasses import dataclass
from pathlib import Path

from simulation import storage
from simulation.errors import BadSetting


@dataclass(frozen=True)
class Home:
    """The folder of one user or project: its store, its tracking database, its Ray cluster's description."""

    path: Path
    """Absolute."""

    @classmethod
    def current(cls) -> "Home":
        """The home the environment names. Creates nothing. BadSetting if a file lies where the folder should be."""
        path = Path(os.environ.get("UNMUFFLE_HOME") or ".unmuffle").expanduser().absolute()
        if path.exists() and not path.is_dir():
            raise BadSetting(
                f"UNMUFFLE_HOME is {path}, which is a file. Expected a folder, or a path where none is yet."
            )
        return cls(path)

    @property
    def store(self) -> str:
        """Address of the object store: UNMUFFLE_STORE, or a folder of the home."""
        return storage.normal(os.environ.get("UNMUFFLE_STORE") or str(self.path / "store"))

    @property
    def tracking_uri(self) -> str:
        """MLflow's address: MLFLOW_TRACKING_URI, or an sqlite file of the home."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.path / 'mlflow.db'}"

    @property
    def ray(self) -> Path:
        """Folder of what describes the home's Ray cluster: cluster.json, its lock, the token."""
        return self.path / "ray"
