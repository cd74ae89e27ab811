"""Updates of the page: each value reaches the widget that it is named after."""

from types import SimpleNamespace

import pytest

from hrn_opt.web.page import updates


@pytest.mark.parametrize("update", [updates.FacesUpdate, updates.PressUpdate, updates.RunUpdate, updates.ResultUpdate])
def test_widgets_stand_in_the_order_of_the_values(update):
    owner = SimpleNamespace(**{name: f"widget {name}" for name in reversed(update._fields)})
    owner.another = "widget another"
    assert updates.targets(update, owner) == [f"widget {name}" for name in update._fields]


def test_states_and_several_owners():
    first = SimpleNamespace(**dict.fromkeys(updates.FacesUpdate._fields[:3], "first"))
    second = SimpleNamespace(face="second")
    assert updates.targets(updates.FacesUpdate, first, second, found="state") == ["first"] * 3 + ["second", "state"]


def test_what_is_not_named_stays_the_same():
    assert all(value is updates.SAME for value in updates.RunUpdate())


def test_one_of_create_and_cancel_can_be_pressed():
    assert [updates.buttons(True)[name].interactive for name in ("create", "cancel")] == [False, True]
    assert [updates.buttons(False)[name].interactive for name in ("create", "cancel")] == [True, False]
