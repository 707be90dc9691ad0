"""Every kernel is compiled for GPUs that are not there: no product is lost, nothing spills."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

import disassemble

SCRIPT = Path(disassemble.__file__)
PRODUCTS = {"project", "gram_factors", "embed", "move_weights"}


@pytest.mark.parametrize("capability", [80, 90], ids=["sm_80", "sm_90"])
def test_kernels_compile_with_all_their_products(capability, tmp_path):
    """At the paper's size and three seeds: there ptxas once dropped all products of a kernel, and only there.

    The interpreter checks neither types nor machine code; the compiler of a GPU does, without one.
    """
    plain = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    made = subprocess.run(
        [sys.executable, SCRIPT, str(capability), "paper", "3", "1"],
        check=False,
        env=plain | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    rows = [json.loads(line) for line in made.stdout.splitlines()]
    assert len(rows) == 17
    for row in rows:
        assert row["dropped"] == row["spilled"] == 0, row
        assert (row["products"] > 0) == (row["kernel"] in PRODUCTS), row
        assert row["shared"] <= (160 << 10), row


def test_a_dropped_product_and_a_spill_are_seen():
    usage = " Function f:\n  REG:168 STACK:{} SHARED:0 LOCAL:0"
    code = (
        "/*0a90*/ HGMMA.64x32x16.F32 R24, gdesc[UR8], R24, gsb0 ;\n/*0aa0*/ HMMA.16816.F32 R4, R8, R2, R4 ;\n"
    )
    assert disassemble.parse(usage.format(0), code) == {
        "registers": 168,
        "spilled": 0,
        "products": 2,
        "dropped": 0,
    }
    lost = code.replace("F32 R24,", "F16 RZ,", 1)
    assert disassemble.parse(usage.format(0), lost)["dropped"] == 1
    assert disassemble.parse(usage.format(16), code + "/*0ab0*/ STL [R1], R4 ;\n")["spilled"] > 0
