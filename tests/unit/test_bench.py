"""The page about benchmarks says what the benchmarks said."""

from datetime import UTC, datetime

from bench import documents
from bench.report import Machine, Report, Table, percentile, shown
from bench.turns import Turn, rates, ratio


def report() -> Report:
    machine = Machine(
        processor="a processor",
        cores=2,
        memory_gib=24.0,
        system="Linux",
        python="3.11",
        temporalio="1.35",
        temporal_server="1.32",
        postgresql="18.4",
        at=datetime(2026, 11, 24, tzinfo=UTC),
    )
    table = Table(title="A table", columns=("what", "ms"), rows=(("this", 12.345), ("that", None)))
    return Report(
        benchmark="latency", machine=machine, setting="10 of each", figures={"ratio": 0.8612}, tables=(table,)
    )


def test_the_page_is_what_the_results_make() -> None:
    assert documents.DOCUMENT.read_text("utf-8") == documents.text(), "run `scripts/bench docs`"


def test_a_report_survives_as_json() -> None:
    assert Report.model_validate_json(report().model_dump_json()) == report()


def test_a_table_is_shown_in_markdown() -> None:
    assert report().tables[0].markdown() == "| what | ms |\n| --- | ---: |\n| this | 12.3 |\n| that | - |"


def test_numbers_are_shown_with_three_digits() -> None:
    assert [shown(value) for value in (0.8612, 12.345, 1234.5, 7, None)] == ["0.86", "12.3", "1234", "7", "-"]


def test_a_side_is_compared_with_what_the_other_one_did_at_the_same_time() -> None:
    mine, other = ([Turn(seconds=s, latencies=(0.1,), cpu={}) for s in seconds] for seconds in ((1, 4, 2), (1, 2, 4)))
    assert rates(mine, other) == [1, 0.5, 2]
    assert ratio(mine, other) == 1


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, percent) for percent in (50, 99, 100)] == [50, 99, 100]
    assert percentile([], 50) is None
