"""The two sending limits, with a clock made of numbers."""

from server.simulator.limits import PairRate, Throughput


def test_the_eighty_first_message_within_a_second_is_one_too_many() -> None:
    limit = Throughput(80)
    for _ in range(80):
        assert not limit.full(10.0)
        limit.spend(10.0)

    assert limit.full(10.0)
    assert limit.full(10.999)
    assert not limit.full(11.0)


def test_without_a_throughput_limit_nothing_is_too_much() -> None:
    limit = Throughput(None)
    for _ in range(1000):
        limit.spend(10.0)

    assert not limit.full(10.0)


def test_one_message_in_six_seconds_to_one_customer_goes_for_ever() -> None:
    pairs = PairRate(seconds=6.0, burst=45)
    for turn in range(100):
        assert not pairs.full("ann", turn * 6.0)
        pairs.spend("ann", turn * 6.0)


def test_a_burst_of_forty_five_is_paid_off_before_the_next_message() -> None:
    pairs = PairRate(seconds=6.0, burst=45)
    for _ in range(45):
        assert not pairs.full("ann", 0.0)
        pairs.spend("ann", 0.0)

    assert pairs.full("ann", 0.1)
    assert pairs.full("ann", 45 * 6.0 - 0.1)
    assert not pairs.full("ann", 45 * 6.0)
    assert not pairs.full("bob", 0.1)


def test_a_burst_of_twenty_closes_the_customer_for_two_minutes() -> None:
    pairs = PairRate(seconds=6.0, burst=45)
    for _ in range(20):
        pairs.spend("ann", 0.0)

    assert not pairs.full("ann", 5.9)
    assert pairs.full("ann", 6.0)
    assert pairs.full("ann", 119.9)
    assert not pairs.full("ann", 120.0)
