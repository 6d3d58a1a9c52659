"""A frame as a list of steps on matrices, which `kernels.cpp` takes one after another without a word of Python between.

Matrices lie in three memories: weights; scratch, which all streams share; what one stream keeps. A `Place` says where,
and how far apart the rows lie: overlapping windows, columns beside others and the bins of zeros at both ends are places
too, so nothing is copied for them. `compiled.py` writes the steps of RaD-Net 2.
"""

import ctypes
import logging
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

log = logging.getLogger(__name__)

VECTOR_BYTES = 64
"""Of a vector of `kernels.cpp`."""
WEIGHTS, SCRATCH, KEPT = range(3)
LINEAR, DEPTHWISE, COMPLEX_DEPTHWISE, NORM, GATE, ADD, MASK, ATTENTION, RAISED, LOUDNESS, SCALED = range(11)
MOST_TAPS, MOST_WIDTH = 32, 4
"""Of a convolution along time; of a map of attention."""
NUMBERS = {torch.float32: "float", torch.float64: "double"}
COMPILERS = ("c++", "g++")
OPTIONS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC", "-w")


@dataclass(frozen=True)
class Place:
    """A matrix of `rows` rows, `row` numbers apart; one entry of a ring where there is a ring."""

    memory: int
    first: int
    rows: int
    columns: int
    row: int
    ring: int = 1
    slot: int = 0
    age: int = 0

    def at_columns(self, first: int, count: int) -> "Place":
        """Columns of it."""
        return replace(self, first=self.first + first, columns=count)

    def at_rows(self, first: int, count: int) -> "Place":
        """Rows of it; before the first one and behind the last lie zeros, where it has been made with some."""
        return replace(self, first=self.first + first * self.row, rows=count)

    def windows(self, size: int, stride: int) -> "Place":
        """Each row the columns of `size` neighbouring rows, which must lie close together."""
        assert self.row == self.columns
        count = (self.rows - size) // stride + 1
        return replace(self, rows=count, columns=size * self.columns, row=stride * self.row)

    def shaped(self, rows: int, columns: int) -> "Place":
        """The same numbers in other rows; they must lie close together."""
        assert self.row == self.columns and rows * columns <= self.rows * self.columns
        return replace(self, rows=rows, columns=columns, row=columns)

    def aged(self, frames: int) -> "Place":
        """What lay here so many frames ago."""
        return replace(self, age=frames)


class _Place(ctypes.Structure):
    _fields_ = [("first", ctypes.c_int64)] + [
        (name, ctypes.c_int32) for name in ("memory", "row", "ring", "slot", "age", "unused")
    ]


class Step(ctypes.Structure):
    """As `kernels.cpp` has it."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("kind", "rows", "columns", "inner", "option", "more")),
        ("value", ctypes.c_double),
        *((name, ctypes.c_int64) for name in ("weight", "bias", "slope", "statistics")),
        *((name, _Place) for name in ("x", "y", "out")),
    ]


def _place(place: Place | None) -> _Place:
    if place is None:
        return _Place(memory=-1)
    return _Place(place.first, place.memory, place.row, place.ring, place.slot, place.age, 0)


class Kept(NamedTuple):
    """What a stream keeps: numbers, and running means in double precision."""

    numbers: Tensor
    statistics: Tensor


class Program:
    """Steps as they are written down, then memories for them; see the methods named after each kind of step."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype, self._wide = dtype, VECTOR_BYTES // dtype.itemsize
        self._weights: list[Tensor] = []
        self._sizes = [0, 0, 0]
        self._steps: list[Step] = []
        self._statistics = 0
        self.parts: list[tuple[str, int]] = []
        """Names of parts of the frame, and how many steps come before each."""
        self._shared: dict[tuple[int, ...], Place] = {}

    def part(self, name: str) -> None:
        """The steps to come belong to this part of the frame."""
        self.parts.append((name, len(self._steps)))

    # ---- memories

    def scratch(self, rows: int, columns: int, before: int = 0, after: int = 0) -> Place:
        """A matrix for this frame alone, rows of zeros around it."""
        return self._reserved(SCRATCH, rows, columns, 1, before, after)

    def shared(self, rows: int, columns: int) -> Place:
        """A matrix that every caller who wants this shape gets, for the next steps alone."""
        shape = (rows, columns)
        if shape not in self._shared:
            self._shared[shape] = self.scratch(rows, columns)
        return self._shared[shape]

    def kept(self, rows: int, columns: int, frames: int, before: int = 0, after: int = 0) -> Place:
        """A ring of matrices, one for each of the last `frames` frames, zeros at first."""
        return self._reserved(KEPT, rows, columns, frames, before, after)

    def _reserved(self, memory: int, rows: int, columns: int, ring: int, before: int, after: int) -> Place:
        slot = self._whole((before + rows + after) * columns)
        first = self._sizes[memory]
        self._sizes[memory] += ring * slot + self._wide
        return Place(memory, first + before * columns, rows, columns, columns, ring, slot)

    def _whole(self, count: int) -> int:
        """Up to whole vectors."""
        return -(-count // self._wide) * self._wide

    def _weight(self, weight: Tensor | None) -> int:
        """Filled up to whole vectors along the last axis."""
        if weight is None:
            return -1
        columns = weight.shape[-1]
        flat = functional.pad(weight.detach().to(self.dtype), (0, self._whole(columns) - columns)).flatten()
        first = self._sizes[WEIGHTS]
        self._weights.append(flat)
        self._sizes[WEIGHTS] += len(flat)
        return first

    def _step(self, kind: int, x: Place, out: Place, y: Place | None = None, **values: Any) -> None:
        values = {"rows": x.rows, "columns": out.columns, "weight": -1, "bias": -1, "slope": -1} | values
        self._steps.append(Step(kind=kind, x=_place(x), y=_place(y), out=_place(out), **values))

    # ---- kinds of steps

    def linear(
        self,
        x: Place,
        weight: Tensor | Sequence[Tensor],
        bias: Tensor,
        out: Place,
        slope: Tensor | None = None,
        plus: Place | None = None,
        dilation: int = 0,
    ) -> None:
        """`out` = slope(x @ weight + bias + plus); `weight` [inner, columns].

        Several weights are those of a convolution along time, for the newest frame first, `dilation` frames apart.
        """
        taps = [weight] if isinstance(weight, Tensor) else weight
        inner, columns = taps[0].shape
        assert (x.columns, out.columns, out.rows) == (inner, columns, x.rows) and len(taps) <= MOST_TAPS
        together = functional.pad(torch.cat(list(taps)), (0, self._whole(columns) - columns))
        panels = self._weight(together.unflatten(1, (-1, self._wide)).transpose(0, 1).flatten())
        places: dict[str, Any] = {"weight": panels, "bias": self._weight(bias), "slope": self._weight(slope)}
        self._step(LINEAR, x, out, plus, inner=inner, option=dilation, more=len(taps), **places)

    def depthwise(self, x: Place, weight: Tensor, bias: Tensor, slope: Tensor, dilation: int, out: Place) -> None:
        """Each column over three frames and three bins; `weight` [3, 3, columns], the oldest frame first.

        With a leading axis of two: complex columns, the second set for what a column gives to its other part.
        """
        places: dict[str, Any] = {}
        places |= {"weight": self._weight(weight), "bias": self._weight(bias), "slope": self._weight(slope)}
        kind = DEPTHWISE if weight.ndim == 3 else COMPLEX_DEPTHWISE
        self._step(kind, x.at_rows(-1, x.rows), out, option=dilation, **places)

    def norm(
        self, x: Place, gain: Tensor | None, bias: Tensor | None, slope: Tensor | None, first: bool, floor: float,
        out: Place,
    ) -> None:  # fmt: skip
        """Running norm over all of x; the slope comes `first`, or last."""
        places: dict[str, Any] = {
            "weight": self._weight(gain),
            "bias": self._weight(bias),
            "slope": self._weight(slope),
        }
        self._step(NORM, x, out, option=int(first), value=floor, statistics=self._statistics, **places)
        self._statistics += 2

    def gate(self, x: Place, y: Place, out: Place) -> None:
        """`out` = x * sigmoid(y)."""
        self._step(GATE, x, out, y)

    def add(self, x: Place, y: Place | None, out: Place, times: float = 1.0) -> None:
        """`out` = x + times * y, or a copy of x."""
        self._step(ADD, x, out, y, value=times)

    def mask(self, x: Place, mask: Place, bounded: bool, floor: float, out: Place, behind: int) -> None:
        """Complex products, imaginary parts behind real ones; in the output `behind` columns behind."""
        values = {"columns": x.columns // 2, "inner": behind, "option": int(bounded), "value": floor}
        self._step(MASK, x, out, mask, **values)

    def attention(self, x: Place, maps: int, width: int, out: Place) -> None:
        """Queries, keys, values of each map side by side in x; a softmax of powers of two."""
        assert width <= MOST_WIDTH
        self._step(ATTENTION, x, out, inner=width, more=maps)

    def raised(self, x: Place, exponent: Tensor, floor: float, out: Place) -> None:
        """Complex numbers times a power of their squared moduli."""
        self._step(RAISED, x, out, value=floor, weight=self._weight(exponent.flatten()))

    def loudness(self, x: Place, silence: float) -> Place:
        """One number: RMS over RMS and `silence`."""
        out = self.scratch(1, 1)
        self._step(LOUDNESS, x, out, columns=x.columns, value=silence)
        return out

    def scaled(self, x: Place, factor: Place, out: Place) -> None:
        """`out` = x times a number."""
        self._step(SCALED, x, out, factor)

    # ---- to be run

    def ready(self, run: Callable[..., None], x: Place, out: Place) -> "Ready":
        """With memories, for a function of `kernels`."""
        return Ready(self, run, x, out)

    def memories(self) -> tuple[Tensor, Tensor]:
        """Weights and scratch."""
        return torch.cat(self._weights), torch.zeros(self._sizes[SCRATCH], dtype=self.dtype)

    def begin(self) -> Kept:
        """Of a stream that has heard nothing."""
        numbers = torch.zeros(self._sizes[KEPT], dtype=self.dtype)
        return Kept(numbers, torch.zeros(self._statistics, dtype=torch.float64))

    def steps(self) -> Any:
        """As an array."""
        return (Step * len(self._steps))(*self._steps)


class Ready:
    """A program that can be run: one frame in, one frame out."""

    def __init__(self, program: Program, run: Callable[..., None], x: Place, out: Place) -> None:
        self._run, self.begin = run, program.begin
        self.steps = program.steps()
        self.weights, self._scratch = program.memories()
        ends = [first for _, first in program.parts[1:]] + [len(self.steps)]
        self.parts = [
            (name, range(first, end)) for (name, first), end in zip(program.parts, ends, strict=True) if end > first
        ]
        """Which steps make each part of the frame, in order."""
        self._x, self._out = (
            self._scratch[place.first : place.first + place.rows * place.columns].view(place.rows, place.columns)
            for place in (x, out)
        )

    def __call__(self, x: Tensor, kept: Kept, frame: int) -> Tensor:
        """What comes out is overwritten by the next call."""
        self._x.copy_(x)
        self.run(range(len(self.steps)), kept, frame)
        return self._out

    def run(self, steps: range, kept: Kept, frame: int) -> None:
        """Some of the steps; a frame is all of them in their order."""
        first = ctypes.addressof(self.steps) + steps.start * ctypes.sizeof(Step)
        memories = (each.data_ptr() for each in (self.weights, self._scratch, kept.numbers, kept.statistics))
        self._run(first, len(steps), *memories, frame)


@cache
def kernels(dtype: torch.dtype) -> Callable[..., None] | None:
    """`run_steps` of `kernels.cpp`, compiled for this processor and for numbers of this kind.

    None where no C++ compiler is found, or it does not succeed, and for other kinds of numbers.
    """
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None or dtype not in NUMBERS:
        return None
    with tempfile.TemporaryDirectory() as folder:
        made, source = Path(folder) / "kernels.so", Path(__file__).with_name("kernels.cpp")
        command = [compiler, *OPTIONS, f"-DNUMBER={NUMBERS[dtype]}", str(source), "-o", str(made)]
        outcome = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if outcome.returncode:
            log.warning("%s did not compile; frames take PyTorch's operations instead: %s", source, outcome.stderr)
            return None
        run: Any = ctypes.CDLL(str(made)).run_steps
    run.argtypes = [ctypes.c_void_p, ctypes.c_int64, *[ctypes.c_void_p] * 4, ctypes.c_int64]
    run.restype = None
    return run
