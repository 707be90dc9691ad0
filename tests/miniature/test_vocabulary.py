"""Words of the miniature world: classes, synonyms, families and the frozen general bank."""

import hashlib

import pytest

from taco.miniature import vocabulary

CLASSES = vocabulary.SOUNDING + vocabulary.SILENT


def test_sizes():
    assert len(vocabulary.SOUNDING) == len(set(vocabulary.SOUNDING)) == 12
    assert len(vocabulary.SILENT) == 6
    assert len(vocabulary.FAMILIES) == 6
    assert len(set(vocabulary.UNRELATED)) >= 80
    assert set(vocabulary.SYNONYMS) == set(CLASSES)
    assert min(len(phrases) for phrases in vocabulary.SYNONYMS.values()) >= 3


def test_general_bank_is_unique_sized_and_complete():
    bank = vocabulary.general_bank()
    assert 200 <= len(bank) == len(set(bank)) <= 240
    assert bank[:12] == vocabulary.SOUNDING
    parts = [*CLASSES, *vocabulary.UNRELATED, *vocabulary.BACKGROUND_WORDS, "bell and bird"]
    parts += [phrase for group in vocabulary.SYNONYMS.values() for phrase in group]
    parts += [phrase for group in vocabulary.FAMILY_WORDS.values() for phrase in group]
    assert set(parts) <= set(bank)


def test_general_bank_is_frozen():
    """Scores of different days compare only if the bank is the same; a change of it must be deliberate."""
    digest = hashlib.sha256("\n".join(vocabulary.general_bank()).encode()).hexdigest()
    assert digest == "86b4f6ad7f306f6dfec9a1caa378c96f8d6bda3f179008b23a72dc40b48d97e1"


def test_a_phrase_names_one_class():
    phrases = list(CLASSES)
    phrases += [phrase for group in vocabulary.SYNONYMS.values() for phrase in group]
    assert len(phrases) == len(set(phrases))


def test_compounds_join_different_families():
    pairs = [phrase.split(" and ") for phrase in vocabulary.compounds()]
    assert len(pairs) == 20
    assert all(vocabulary.family_of(a) != vocabulary.family_of(b) for a, b in pairs)


def test_vocabulary_covers_banks_and_prompts():
    known = vocabulary.vocabulary()
    assert list(known) == sorted(set(known))
    assert set(vocabulary.words("A photo of a")) <= set(known)
    assert set(vocabulary.words("This is a sound of")) <= set(known)
    for phrase in vocabulary.general_bank():
        assert set(phrase.split()) <= set(known), phrase


def test_family_of_refuses_a_silent_class():
    with pytest.raises(KeyError, match="'vase' is no sounding class"):
        vocabulary.family_of("vase")


@pytest.mark.parametrize(
    ("phrase", "expected"), [("urn", "an urn"), ("ukulele", "a ukulele"), ("kite", "a kite")]
)
def test_article(phrase, expected):
    assert vocabulary.with_article(phrase) == expected
