"""The pipeline as YAML for a Kubeflow cluster; the image is named by digest when it is compiled, not before."""

import re
import tempfile
from pathlib import Path

from components.compute import IMAGE
from simulation.errors import BadSetting

DIGEST = re.compile(r"^[\w.\-/:]+@sha256:[0-9a-f]{64}$")


def compiled(image: str = IMAGE) -> str:
    """The YAML of `retrain` with every task in `image` (REF@sha256:...; a tag could change under a schedule)."""
    if not DIGEST.match(image):
        raise BadSetting(f"{image!r} does not name an image by digest; type REF@sha256:<64 hex characters>.")
    from kfp import compiler

    from pipelines.enhancement import retrain

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "retrain.yaml"
        compiler.Compiler().compile(retrain, str(path))
        return path.read_text().replace(IMAGE, image)
