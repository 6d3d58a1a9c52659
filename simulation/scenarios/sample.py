"""The scenarios over the corpus that ships with the project: what the demo is made of, and its like at 48 kHz."""

from simulation.degradations.band_limit import BandLimit
from simulation.degradations.noise import AddNoise
from simulation.degradations.reverb import Reverberate
from simulation.rooms import RoomBank
from simulation.scenario import Case, Scenario, Size
from simulation.schema import Range


def sample() -> Scenario:
    """The shipped corpus at 16 kHz, in four slices; small enough to build in a minute on a laptop.

    Source: ours; `all` follows the signal model y = h(x * r) + n of DM: room, then band limit, then noise.

    Noise has five rows of eight, so that its slice of the test split (160 of 256 rows) can carry the comparison that a
    promotion rests on.
    """
    noise = AddNoise(snr_db=Range(low=-5.0, high=15.0))
    reverb = Reverberate(target="early")
    band_limit = BandLimit(cutoff_hz=Range(low=1000.0, high=4000.0))
    return Scenario(
        name="sample",
        rooms=RoomBank(),
        cases=(
            Case(name="noise", share=5, degradations=(noise,)),
            Case(name="reverb", share=1, degradations=(reverb,)),
            Case(name="band_limit", share=1, degradations=(band_limit,)),
            Case(name="all", share=1, degradations=(reverb, band_limit, noise)),
        ),
        rows_per_shard=32,
        size=Size(train_hours=0.7, valid_rows=32, test_rows=256),
        seed=0,
    )


def sample48() -> Scenario:
    """The four slices at 48 kHz, over speech and noise of your own: too little of that rate is free to be shipped.

    Source: ours. Needs folders of 48 kHz: `unmuffle simulate sample48 --speech FOLDER --noise FOLDER`. Rooms are
    simulated at 48 kHz; measured ones may be given with `--rirs`.
    """
    wide = BandLimit(cutoff_hz=Range(low=1000.0, high=16_000.0))
    at_16k = sample()
    cases = tuple(
        case.model_copy(
            update={"degradations": tuple(wide if each.kind == "band_limit" else each for each in case.degradations)}
        )
        for case in at_16k.cases
    )
    return at_16k.model_copy(update={"name": "sample48", "sample_rate": 48_000, "rirs": "none", "cases": cases})
