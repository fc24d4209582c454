"""Two spellings of one key, and fingerprints that keep lists of parts apart."""

import pytest

from aforesaid import ids


@pytest.mark.parametrize("count", [1, 2, 1025, 3000])
def test_ids_of_a_batch_count_upwards_and_have_numbers(count: int) -> None:
    made = ids.new_ids(ids.MESSAGE, count)
    first = ids.number_of(made[0], ids.MESSAGE)
    assert first is not None
    assert made == sorted(set(made))
    assert [ids.number_of(one, ids.MESSAGE) for one in made] == list(range(first, first + count))
    assert all(len(one) == len("msg_") + 26 and 0 < first + i <= ids.NUMBER_MASK for i, one in enumerate(made))


def test_the_number_is_the_low_52_bits() -> None:
    assert ids.number_of("msg_0000000000000000000000000Z", "msg") == 31
    assert ids.number_of("msg_00000000000000000000000010", "msg") == 32
    assert ids.number_of("msg_7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "msg") == ids.NUMBER_MASK


@pytest.mark.parametrize("ulid", ["", "0" * 25, "0" * 27, "8" + "0" * 25, "0" * 26])
def test_no_ulid_has_no_number(ulid: str) -> None:
    assert ids.number_of(f"msg_{ulid}", "msg") is None


@pytest.mark.parametrize("wrong", "ILOUaz_+- !٣é\x00\ud800")
def test_no_other_character_is_part_of_an_id(wrong: str) -> None:
    for place in range(26):
        ulid = "1" * place + wrong + "1" * (25 - place)
        assert ids.number_of(f"msg_{ulid}", "msg") is None


def test_another_kind_of_id_has_no_number() -> None:
    assert ids.number_of(ids.new_id(ids.CONVERSATION), ids.MESSAGE) is None


def test_no_two_lists_of_parts_have_one_fingerprint() -> None:
    lists: list[tuple[str | int | None, ...]] = [
        (), (None,), ("",), ("a", "b"), ("ab",), ("a", "b", None), ("a", None, "b"), ("1:a", "b"), (1,), (1, None),
        ("\ud800",),
    ]  # fmt: skip
    assert len({ids.fingerprint(*parts) for parts in lists}) == len(lists)
    assert (
        ids.fingerprint("content", "ann", "user", "é", 5).hex() == "f72753a2ab20c1dba5eb8dcaf2ebc13a"
    )  # stored: never another
