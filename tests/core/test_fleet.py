"""A short sample of the long campaigns, so that every commit runs them."""

from __future__ import annotations

from tests.campaigns.five_years import live
from tests.campaigns.fleet import outage, power


def test_a_small_fleet_comes_back_within_half_an_hour_of_a_power_cut() -> None:
    """Four hundred of the hundred thousand: none is forgotten, all are Valid in time."""
    result = power(400, seed=1)
    assert result.never_valid == 0
    assert result.last_valid_min <= 30


def test_a_small_fleet_comes_back_within_half_an_hour_of_an_outage() -> None:
    """After six hours without the identity provider."""
    result = outage(100, seed=1)
    assert result.never_valid == 0
    assert result.last_valid_min <= 30


def test_five_weeks_of_a_gateways_life_keep_the_promises() -> None:
    """Usable 99.9 % of the time (a short life rounds coarsely), no token lost, no needless or late alarm."""
    tally = live(seed=3, years=0.1)
    assert tally.lost_s <= 0.001 * tally.granted_s
    assert tally.tokens_lost == 0
    assert tally.needless == 0
    assert tally.slowest_alarm_s <= 900
    assert tally.most_per_hour <= 12
