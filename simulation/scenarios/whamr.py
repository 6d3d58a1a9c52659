"""Like WHAMR!: one talker in a room, with noise."""

from simulation.degradations import AddNoise, Reverberate
from simulation.rooms import RoomBank
from simulation.scenario import Case, Scenario, Size
from simulation.schema import Range


def whamr() -> Scenario:
    """Noise, a room, and noise in a room, after the conditions of WHAMR!; the target is the direct sound.

    Source: WHAMR! (Maciejewski and others 2020): rooms of 5 to 10 by 5 to 10 by 3 to 4 m, speaker 0.66 to 2 m away,
    RT60 0.1 to 1.0 s, target anechoic; noise after the room, at the -6 to 3 dB of WHAM! (Wichern and others 2019).

    Deviates: one talker, no separation of two; RT60 is uniform over the whole range, not over three overlapping ones;
    the direct sound has the level of the dry speech and its travel time is cut from both sides (theirs keeps both);
    speaker and microphone stand anywhere, not near the middle; noise comes from the sources that are given.
    """
    noise = AddNoise(snr_db=Range(low=-6.0, high=3.0), fit="crop")
    reverb = Reverberate(target="direct")
    return Scenario(
        name="whamr",
        rirs="none",
        rooms=RoomBank(
            rooms=48,
            length_m=Range(low=5.0, high=10.0),
            width_m=Range(low=5.0, high=10.0),
            height_m=Range(low=3.0, high=4.0),
            distance_m=Range(low=0.66, high=2.0),
            rt60_s=Range(low=0.1, high=1.0),
            method="hybrid",
        ),
        cases=(
            Case(name="noise", degradations=(noise,)),
            Case(name="reverb", degradations=(reverb,)),
            Case(name="reverb_noise", share=2, degradations=(reverb, noise)),
        ),
        size=Size(train_hours=1.0, valid_rows=96, test_rows=256),
    )
