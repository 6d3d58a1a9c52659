"""The main job, whole: `make demo` on the shipped corpus, and what a new user types next."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from simulation import audio, storage
from simulation.corpus import open_splits
from simulation.home import Home
from training.scorecard import Scorecard

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent.parent
NOISE_UTTERANCES = 150


class Demo:
    """A home in which the demo has run, and commands typed in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("UNMUFFLE_")}
        self.environment["UNMUFFLE_HOME"] = str(folder / "home")
        self.home = Home(folder / "home")
        self.said = self.python("-m", "pipelines.demo")
        self.lay_out_what_the_readme_names()

    def lay_out_what_the_readme_names(self) -> None:
        """A noisy recording and a folder of pairs: what the demo enhanced; recorded pairs, one in each split."""
        heard = self.home.path / "demo"
        shutil.copy(heard / "noisy.flac", self.folder / "noisy.flac")
        for side in ("clean", "noisy"):
            (self.folder / "pairs" / side).mkdir(parents=True)
            shutil.copy(heard / f"{side}.flac", self.folder / "pairs" / side / "utterance.flac")
        for split, corpus in open_splits(demo_corpus(self)).items():
            pair = corpus.read(0)
            for side in ("clean", "noisy"):
                file = self.folder / "recordings" / side / split / f"{split}-speaker" / "a.flac"
                file.parent.mkdir(parents=True)
                file.write_bytes(audio.encode_flac(getattr(pair, side), pair.sample_rate))

    def python(self, *words: str, code: int = 0) -> str:
        """Run Python with these words in the demo's folder; its output."""
        done = subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    def unmuffle(self, *words: str, code: int = 0) -> str:
        """Type a command of ours."""
        return self.python("-m", "pipelines", *words, code=code)

    def json(self, *words: str) -> Any:
        """The answer of a command for machines."""
        done = subprocess.run(
            [sys.executable, "-m", "pipelines", *words, "--json"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    def champion(self) -> str:
        """Name of the champion."""
        return str(self.json("status")["aliases"]["champion"])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo, once for all tests here."""
    return Demo(tmp_path_factory.mktemp("demo"))


def test_the_promoted_version_answers_over_http(demo: Demo) -> None:
    """The demo ends with a recording that the champion enhanced; the recording got better."""
    match = re.search(r"answered by (\S+):\s+SI-SDR\s+(-?[\d.]+) -> +(-?[\d.]+)", demo.said)
    assert match is not None, demo.said[-2000:]
    assert float(match[3]) > float(match[2])
    assert (demo.folder / "home" / "demo" / "enhanced.flac").stat().st_size > 0


def test_the_champion_is_better_than_its_input_in_noise(demo: Demo) -> None:
    """SI-SDR at least 2 dB with the interval above 1; PESQ and STOI with their intervals above 0."""
    outcome = demo.json("run")
    scorecard = Scorecard.parse(storage.read(outcome["scorecard"]), "scorecard")
    champion = demo.champion()
    noise = {name: scorecard.score(champion, "noise", name).gain for name in ("si_sdr", "pesq", "stoi")}
    assert all(gain is not None and gain.n >= NOISE_UTTERANCES for gain in noise.values())
    assert noise["si_sdr"].mean >= 2.0 and noise["si_sdr"].low > 1.0  # type: ignore[union-attr, operator]
    assert noise["pesq"].low > 0.0 and noise["stoi"].low > 0.0  # type: ignore[union-attr, operator]


def test_running_again_at_once_answers_every_stage_from_its_result(demo: Demo) -> None:
    """Nothing is simulated, trained or scored twice, and the champion stays."""
    before = demo.champion()
    said = demo.unmuffle("run")
    assert said.count("answered from its result") == len(["simulate", "train", "train", "evaluate", "promote"])
    assert demo.champion() == before


def test_every_command_of_the_readme_works(demo: Demo) -> None:
    """In the order in which they stand there; a new user types them one after the other."""
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    commands = [
        line[2:].partition("  #")[0] for block in blocks for line in block.splitlines() if line.startswith("$ ")
    ]
    typed = [shlex.split(command) for command in commands if command.startswith("unmuffle ")]
    assert len(typed) > 10
    stands_for = dict.fromkeys(("CORPUS", "OTHER"), demo_corpus(demo))
    operated = (ROOT / "docs" / "operate.md").read_text()
    shutil.copytree(ROOT / "infra", demo.folder / "infra")  # the folder that a checkout has
    for words in typed:
        if words[1:3] in (["pipeline", verb] for verb in ("submit", "schedule", "trigger", "list")):
            assert " ".join(words[:3]) in operated  # they need a cluster; test_operate types that document
        elif words[1] not in ("serve", "run"):  # those two are what the demo itself consists of
            demo.unmuffle(*[stands_for.get(word, word) for word in words[1:]])


def demo_corpus(demo: Demo) -> str:
    """Address of the corpus the demo made."""
    (corpus,) = (demo.folder / "home" / "store" / "corpora").glob("sample@*")
    return str(corpus)
