"""The list of planted faults fits the project as it is; `make test-mutations` plants them."""

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FAULTS = runpy.run_path(str(ROOT / "tests" / "mutations.py"))["FAULTS"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_every_fault_can_be_planted_and_names_a_test_that_exists(fault: Any) -> None:
    """Whoever rewrites the line plants the fault in the new one."""
    assert fault.right in (ROOT / fault.file).read_text() and fault.right != fault.wrong
    file, _, name = fault.test.partition("::")
    assert f"def {name}(" in (ROOT / file).read_text()


def test_the_list_is_long_enough_and_has_no_fault_twice() -> None:
    """At least twelve were asked for."""
    assert len({(fault.file, fault.wrong) for fault in FAULTS}) == len(FAULTS) >= 12
