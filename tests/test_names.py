"""Values of users in messages: on one line, shortened, and without characters that act on a terminal."""

import pytest
import torch

from captum_softcam._names import closest, listed, quoted, reason, shown

MONSTERS = ["x" * 10**6, "\x1b]0;title\x07" * 500, "\u202e" * 1000, "\udcff" * 999, "\n" * 200, "a\0" * 100, "😀" * 500, ""]


@pytest.mark.parametrize("text", MONSTERS)
@pytest.mark.parametrize(
    "show", [shown, quoted, reason, lambda text: listed([text] * 50), lambda text: closest(text, [text] * 9)]
)
def test_hostile_values_are_shortened(show, text):
    found = show(text)
    assert len(found) <= 200
    assert found.isprintable()


def test_short_values_stay_unchanged():
    assert shown("größe/犬 1.png") == "größe/犬 1.png"
    assert quoted([1, 2, 3]) == "[1, 2, 3]"
    assert listed(["a", "b"]) == "a, b"
    assert closest("ab", ["abc", "xyz"]) == "Closest: 'abc'."
    assert closest("q", [*"abcdefghi"] * 9).endswith("'e' and 49 more.")  # 32 of 81 fit into a line


def test_names_that_hold_the_wrong_one_are_closest():
    cats = ["crate", "tiger cat", "Persian cat", "catamaran", "oxcart"]
    assert closest("Cat", cats) == "Closest: 'tiger cat', 'Persian cat', 'catamaran'."
    assert closest("net", ["lite_net", "network", "nest"]) == "Closest: 'lite_net', 'network', 'nest'."
    assert closest("a.(b", ["xa.(b", "a.(b c"]) == "Closest: 'a.(b c', 'xa.(b'."


def test_long_values_are_cut_in_the_middle():
    assert shown("/folder/" + "x" * 500 + "/name.png", 20) == "/folder/x…x/name.png"
    assert shown("abcdefgh", 5) == "ab…gh"


def test_unprintable_characters_are_escaped():
    assert shown("a\x1b[2J\udcff\u202e\nb") == r"a\x1b[2J\udcff\u202e\nb"


def test_values_that_python_does_not_print():
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    assert quoted(nested) == "a list too large to show"
    assert quoted(10**5000) == "a int too large to show"
    assert len(quoted(torch.zeros(100, 100))) <= 80
    while nested:  # taken apart by hand, or the interpreter recurses as deeply when it lets go
        nested = nested[0]


def test_names_that_do_not_fit_are_counted():
    assert listed(["abc"] * 1000, 20) == "abc, abc, abc, abc and 996 more"


def test_known_names_need_not_be_text():
    assert closest("7", range(10)) == "Closest: '7'."


def test_reasons_end_without_a_stop():
    assert reason(ValueError("two\n lines.")) == "two lines"
