"""Who leads without a break."""

from __future__ import annotations

from cluster import lead


def test_given_answers_in_time_when_heard_then_it_leads_all_the_while():
    held = lead.Lead()
    assert not held.heard_of
    assert held.known(0.0) is None, "nobody was asked"
    assert all(held.heard(True, at) for at in (0.0, lead.HELD, 2 * lead.HELD))
    assert held.heard_of


def test_given_a_gap_or_another_leader_when_heard_then_it_leads_no_more():
    for said, at in ((True, lead.HELD + 0.1), (False, 1.0)):
        held = lead.Lead()
        assert held.heard(True, 0.0)
        assert not held.heard(said, at)
        assert not held.heard(True, at + 1), "what it has read is old, whoever leads now"
        assert held.known(at + lead.HELD) is False, "nobody needs to be asked any more"


def test_given_a_unit_that_did_not_lead_when_it_read_then_it_does_not_lead_in_this_hook():
    held = lead.Lead()
    assert not held.heard(False, 0.0)
    assert not held.heard(True, 1.0)


def test_given_an_answer_when_little_time_has_gone_then_juju_is_not_asked_again():
    held = lead.Lead()
    assert held.heard(True, 0.0)
    assert held.known(lead.HELD / 3) is True
    assert held.known(lead.HELD / 3 + 0.1) is None, "in time to be sure"
