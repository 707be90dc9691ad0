"""Our order of methods beside the paper's: sign, interval, verdict; what the paper does not print is left out."""

import pandas as pd
import pytest

from taco.results import order, summary
from taco.results.tables import Reported

PAPER = Reported(
    paper={
        ("table2", "s4", "TACO", "proposed", "general", "mask-IoU"): (64.0, 0.2, "paper"),
        ("table2", "s4", "TACO", "proposed", "general", "F"): (10.0, 0.2, "paper"),
        ("table2", "s4", "A-FC-CLIP", "list", "specific", "mask-IoU"): (51.5, float("nan"), "paper"),
        ("table4", "s4", "U only", "proposed", "general", "mask-IoU"): (27.8, 0.1, "paper"),
    }
)
SIDES = {
    "TACO": ("TACO", "proposed", "general"),
    "A-FC-CLIP": ("A-FC-CLIP", "list", "specific"),
    "U only": ("U only", "proposed", "general"),
    "saliency": ("saliency", "contributed", "none"),
}


def compared(a, b, difference, low, high):
    row = {"dataset": "S4", "difference": difference, "low": low, "high": high, "n_clips": 40}
    for side, name in zip("ab", (a, b), strict=True):
        row |= dict(zip((f"method_{side}", f"variant_{side}", f"word_bank_{side}"), SIDES[name], strict=True))
    return row


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ((5.0, 1.0, 9.0), order.SAME),
        ((-5.0, -9.0, -1.0), order.OTHER),
        ((5.0, -1.0, 11.0), order.OPEN),
        ((-5.0, -11.0, 1.0), order.OPEN),
    ],
)
def test_the_verdict_follows_sign_and_interval(numbers, verdict):
    found = order.order(pd.DataFrame([compared("TACO", "A-FC-CLIP", *numbers)]), PAPER)
    assert found["verdict"].tolist() == [verdict]
    assert found["paper_difference"].iloc[0] == pytest.approx(12.5)


def test_what_the_paper_does_not_print_is_left_out():
    rows = pd.DataFrame([compared("TACO", "saliency", 5, 1, 9), compared("U only", "TACO", -5, -9, -1)])
    found = order.order(rows, PAPER)
    assert found[["a", "b", "verdict"]].to_numpy().tolist() == [["U only", "TACO", order.SAME]]
    (line,) = order.grid(found).rows
    assert line[1:5] == ["TACO", "U only", "+36.2", "+5.0 (+1.0 to +9.0)"]


def test_the_page_holds_tables_order_and_figure():
    rows = order.order(pd.DataFrame([compared("TACO", "A-FC-CLIP", 5, 1, 9)]), PAPER)
    table = "# Table 2\n\n**miniature suite: a world**\n\n| a |\n"
    text = summary.page(
        "miniature", [table], rows, ("hearing.png", "# Hearing\n\n**s**\n\n| b |\n"), {"Device": "cpu"}
    )
    assert text.index("## Beside the paper's order") < text.index("](hearing.png)") < text.index("## Table 2")
    assert "1 as in the paper, 0 undecided, 0 the other way round" in text and "- Device: cpu" in text
    assert "**miniature suite: a world**" not in text
    assert "hearing.png" not in summary.page("miniature", [table], rows, None, {})
