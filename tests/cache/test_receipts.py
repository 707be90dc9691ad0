"""A receipt lists what is there; its state changes when a listed file has gone, and at no other time."""

import json

import pytest

from taco.cache import receipts


@pytest.fixture
def receipt(tmp_path):
    """A receipt of two files, written after the state before any."""
    files = {("general", variant): tmp_path / f"general/{variant}/0.h5" for variant in ("proposed", "no-min")}
    for file in files.values():
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x")
    path = tmp_path / "0.json"
    receipts.write(path, files, receipts.state(path))
    return path, files


def test_a_receipt_gives_its_files_back(receipt):
    path, files = receipt
    assert receipts.read(path) == files


def test_a_receipt_can_be_moved_with_its_files(receipt, tmp_path):
    path, files = receipt
    path.parent.rename(tmp_path.with_name("elsewhere"))
    found = receipts.read(tmp_path.with_name("elsewhere") / path.name)
    assert set(found) == set(files) and all(file.exists() for file in found.values())


def test_the_state_stands_still_while_the_files_are_there(receipt):
    path, files = receipt
    assert receipts.state(path) == ""
    receipts.write(path, files, receipts.state(path))
    assert receipts.state(path) == ""


def test_a_lost_file_changes_the_state_once_and_its_return_does_not(receipt):
    path, files = receipt
    states = [receipts.state(path)]
    for _ in range(2):  # the second loss of the same file is seen too
        files["general", "no-min"].unlink()
        states.append(receipts.state(path))
        assert "general/no-min/0.h5" in states[-1]
        files["general", "no-min"].write_bytes(b"y")
        receipts.write(path, files, states[-1])
        assert receipts.state(path) == states[-1]
    assert len(set(states)) == 3


def test_a_lost_file_is_named_to_whoever_reads_it(receipt):
    path, files = receipt
    files["general", "proposed"].unlink()
    with pytest.raises(receipts.ReceiptError, match="found no .*general/proposed/0.h5. Run again"):
        receipts.read(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"runs": 3, "state": ""}', '{"runs": [3], "state": ""}'])
def test_a_damaged_receipt_is_refused_and_made_again(receipt, text):
    path, _ = receipt
    path.write_text(text)
    with pytest.raises(receipts.ReceiptError, match=r"0\.json: expected a receipt"):
        receipts.read(path)
    assert receipts.state(path) not in ("", json.dumps(text))


def test_a_missing_receipt_is_refused(tmp_path):
    with pytest.raises(receipts.ReceiptError, match="expected a receipt"):
        receipts.read(tmp_path / "0.json")
