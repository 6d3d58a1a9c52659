"""Plants known faults, one at a time, in a copy of the project; the test named beside each must fail.

`make test-mutations` runs this. A fault that no test catches, or a test that fails without any fault, is an error.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("simulation", "training", "serving", "components", "pipelines", "tests", "pyproject.toml", "README.md")


class Fault(NamedTuple):
    """One line of code that somebody got wrong."""

    what: str
    file: str
    right: str
    wrong: str
    test: str


FAULTS = (
    Fault(
        "skip the conditional write to a bucket",
        "simulation/storage.py",
        'IfNoneMatch="*"',
        "**{}",
        "tests/simulation/test_storage.py",
    ),
    Fault(
        "seed by worker",
        "simulation/chance.py",
        "digest = hashlib.sha256(canonical_json(key)).digest()",
        "digest = hashlib.sha256(canonical_json((*key, __import__('os').getpid()))).digest()",
        "tests/simulation/test_draw.py",
    ),
    Fault(
        "one generator for all fields of an operation",
        "simulation/chance.py",
        "return generator(*self._key, field)",
        "self.__dict__.setdefault('one', generator(*self._key)); return self.one",
        "tests/simulation/test_degradations.py::test_changing_one_range_shifts_no_other_draw",
    ),
    Fault(
        "the common gain reaches the noisy side only",
        "simulation/render.py",
        "clean = audio.quantise(mixture.clean * np.float32(gain), bit_depth)",
        "clean = audio.quantise(mixture.clean, bit_depth)",
        "tests/simulation/test_render.py",
    ),
    Fault(
        "leak a test speaker into train",
        "simulation/corpora/sample/manifest.csv",
        ",test,",
        ",train,",
        "tests/simulation/test_sample_corpus.py::test_splits_share_no_speaker_no_noise_recording_and_no_room",
    ),
    Fault(
        "a group in two splits is let through",
        "simulation/sources.py",
        "_refuse_leaks(kind, where, recordings)",
        "None",
        "tests/simulation/test_sources.py::test_a_group_in_two_splits_is_refused_by_name",
    ),
    Fault(
        "size enters the plan digest",
        "simulation/scenario.py",
        'exclude={"size", "seed", "speech", "noise", "rirs"}',
        'exclude={"seed", "speech", "noise", "rirs"}',
        "tests/simulation/test_draw.py",
    ),
    Fault(
        "tars carry the time of writing",
        "simulation/shards.py",
        "mtime = 0",
        "mtime = __import__('time').time_ns() % 10**9",
        "tests/simulation/test_shards.py",
    ),
    Fault(
        "swap clean and noisy in a metric",
        "training/metrics/stoi.py",
        "taal_stoi(clean, enhanced,",
        "taal_stoi(enhanced, clean,",
        "tests/training/test_metrics.py",
    ),
    Fault(
        "utterances are resampled as if they were independent",
        "training/intervals.py",
        "self.labels = _ways(clusters)",
        "self.labels = _ways([[str(index) for index in range(len(clusters[0]))]])",
        "tests/training/test_intervals.py",
    ),
    Fault(
        "a stage key forgets its inputs",
        "components/specs.py",
        "        return value.sha256\n",
        '        return ""\n',
        "tests/components/test_specs.py::test_moving_a_corpus_keeps_the_key_and_changing_it_does_not",
    ),
    Fault(
        "a superseded attempt commits",
        "components/stage.py",
        "    stage.check()\n    result = Result(",
        "    result = Result(",
        "tests/components/test_stage.py::test_a_superseded_attempt_commits_nothing",
    ),
    Fault(
        "the alias moves before what was deployed is verified",
        "serving/promotion.py",
        "        deployer.verify(handle, version)\n        lease.check()\n        move_alias()\n",
        "        move_alias()\n        deployer.verify(handle, version)\n        lease.check()\n",
        "tests/serving/test_promotion.py",
    ),
    Fault(
        "the gate takes missing scores for a pass",
        "serving/verdict.py",
        "            if failed:\n",
        "            if False:\n",
        "tests/serving/test_verdict.py::test_whatever_is_missing_is_a_no",
    ),
    Fault(
        "several candidates are judged as if each were alone",
        "serving/verdict.py",
        "1 - bench.policy.alpha / len(left)",
        "1 - bench.policy.alpha",
        "tests/serving/test_verdict.py::test_more_candidates_need_stronger_evidence",
    ),
    Fault(
        "workers' shares of a batch weigh the same however large they are",
        "training/loop.py",
        "losses.total.sum() * (seat.world / run.recipe.batch_size)",
        "losses.total.mean()",
        "tests/training/test_loop.py",
    ),
    Fault(
        "weights are loaded without looking at their digest",
        "training/checkpoint.py",
        "    _must_be(hashlib.sha256(weights).hexdigest(), record, address)\n",
        "",
        "tests/training/test_checkpoint.py",
    ),
    Fault(
        "KFP tasks install packages",
        "components/train.py",
        "install_kfp_package=False",
        "install_kfp_package=True",
        "tests/pipelines/test_pipeline.py::test_no_task_installs_anything",
    ),
)


def main() -> int:
    """Every fault in turn; the number that got through is the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, copy / name)
        sound = _passes(copy, sorted({fault.test for fault in FAULTS}))
        if not sound:
            print("the named tests fail without any fault planted")
            return 1
        survivors = [fault for number, fault in enumerate(FAULTS, 1) if not _caught(copy, fault, number)]
    print(f"{len(FAULTS) - len(survivors)} of {len(FAULTS)} faults caught")
    return len(survivors)


def _caught(copy: Path, fault: Fault, number: int) -> bool:
    """Plant a fault, run its test, and take the fault out again."""
    path = copy / fault.file
    text = path.read_text()
    if fault.right not in text:
        print(f"{number:2} STALE     {fault.what}: {fault.file} has no {fault.right!r}")
        return False
    path.write_text(text.replace(fault.right, fault.wrong, 1))
    try:
        caught = not _passes(copy, [fault.test])
    finally:
        path.write_text(text)
    print(f"{number:2} {'caught' if caught else 'SURVIVED':9} {fault.what} ({fault.test})", flush=True)
    return caught


def _passes(copy: Path, tests: list[str]) -> bool:
    """Whether these tests pass on the copy, which shadows the installed project."""
    words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *tests]
    done = subprocess.run([*words, "-m", "not long"], cwd=copy, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        print(done.stdout[-2000:], done.stderr[-2000:])
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
