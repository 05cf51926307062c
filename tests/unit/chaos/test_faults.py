"""What a seed decides, it decides every time."""

from itertools import islice

from standfast.local.chaos.faults import FAULTS, schedule
from standfast.local.chaos.tickets import Kind, scripted


def test_every_kind_of_fault_comes_once_in_each_round() -> None:
    planned = [one.fault for one in islice(schedule(7), 2 * len(FAULTS))]
    assert set(planned[: len(FAULTS)]) == set(planned[len(FAULTS) :]) == set(FAULTS)


def test_a_seed_always_means_the_same_faults_and_tickets() -> None:
    assert list(islice(schedule(7), 40)) == list(islice(schedule(7), 40)) != list(islice(schedule(8), 40))
    tickets = [scripted(7, number) for number in range(1, 100)]
    assert tickets == [scripted(7, number) for number in range(1, 100)] != [scripted(8, n) for n in range(1, 100)]
    assert {ticket.kind for ticket in tickets} == set(Kind)
