"""Everybody in turn."""

from dataclasses import dataclass

from hrn_opt.serving.fairness import Caller, Turns

ADA, BOB, EVE = Caller("ada", "1"), Caller("bob", "1"), Caller("eve", "2")


@dataclass(frozen=True)
class Entry:
    number: int
    caller: Caller


def order(turns, *callers):
    return [entry.caller.visitor for entry in turns.order([Entry(n, caller) for n, caller in enumerate(callers)])]


def test_one_visitors_photos_stay_in_their_order():
    entries = [Entry(number, ADA) for number in (3, 1, 2)]
    assert [entry.number for entry in Turns().order(entries)] == [1, 2, 3]


def test_addresses_take_turns_and_within_them_visitors():
    assert order(Turns(), ADA, ADA, ADA, BOB, EVE, EVE) == ["ada", "eve", "bob", "eve", "ada", "ada"]


def test_whoever_was_served_longest_ago_is_next():
    turns = Turns()
    turns.served(ADA)
    assert order(turns, ADA, BOB) == ["bob", "ada"]
    turns.served(BOB)
    turns.served(EVE)
    assert order(turns, BOB, ADA) == ["ada", "bob"]
    assert order(turns, EVE, BOB) == ["bob", "eve"]


def test_who_has_nothing_here_is_forgotten():
    turns = Turns()
    for number in range(100):
        turns.served(Caller(f"visitor {number}", f"address {number}"))
        turns.forget_others([ADA])
    assert not turns._last
    assert order(turns, EVE, ADA) == ["eve", "ada"]


def test_nobody_waits():
    assert Turns().order([]) == []
