"""Times the renderer of a checkout of the URGENT 2025 challenge on rows given as JSON: for `make bench-simulation`.

Run by an interpreter that has the challenge's requirements, not ours. The rows' own recordings and SNR are used; the
band is limited by each of the challenge's resamplers in turn, to 8 kHz, the only rate it has below 16 kHz. Reads and
writes are its own.
"""

import json
import sys
import time
from pathlib import Path

RESAMPLERS = ("kaiser_best", "kaiser_fast", "scipy", "polyphase")
WARM_UP = 4
"""Rows before the clock runs: the first calls compile."""


def main(checkout: str) -> None:
    """Read the task, render it, print what it took."""
    sys.path.insert(0, str(Path(checkout, "simulation")))
    import soundfile
    from simulate_data_from_param import process_one_sample  # type: ignore[import-not-found]

    task = json.loads(sys.stdin.read())
    folder, paths, rate = Path(task["folder"]), task["paths"], task["sample_rate"]
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, row in enumerate(task["rows"]):
        chosen = {operation["kind"]: operation for operation in row["operations"]}
        rows.append(
            {
                "id": f"row_{number}",
                "fs": rate,
                "snr_dB": chosen["noise"]["snr_db"],
                "speech_uid": row["speech"],
                "noise_uid": chosen["noise"]["recording"],
                "rir_uid": chosen["reverb"]["rir"],
                "augmentation": f"bandwidth_limitation-{RESAMPLERS[number % len(RESAMPLERS)]}->8000",
                "length": soundfile.info(paths[row["speech"]]).frames,
                "clean_path": str(folder / f"{number}.clean.flac"),
                "noisy_path": str(folder / f"{number}.noisy.flac"),
            }
        )
    for row in rows[:WARM_UP]:
        process_one_sample(row, speech_dic=paths, noise_dic=paths, rir_dic=paths)
    began = time.perf_counter()
    for row in rows:
        process_one_sample(row, speech_dic=paths, noise_dic=paths, rir_dic=paths)
    took_s = time.perf_counter() - began
    print(json.dumps({"took_s": took_s, "audio_h": sum(row["length"] for row in rows) / rate / 3600}))


if __name__ == "__main__":
    main(sys.argv[1])
