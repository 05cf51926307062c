"""The benchmarks run: in the smallest size, to be sure that they still do."""

from bench import batch, inbox, pipeline


async def test_the_pipeline_is_measured_beside_a_bare_workflow() -> None:
    report = await pipeline.run(pipeline.Size(rounds=1, tickets=2, in_flight=2, growth=(2,)))
    assert set(report.figures) == {"ratio to bare", "ratio to bare, no child workflow"}
    assert all(figure > 0 for figure in report.figures.values())
    speed, processor_time, steps, growth = report.tables
    assert [row[0] for row in speed.rows] == ["Standfast", "bare", "bare, no child workflow"]
    assert len(processor_time.rows) == len(speed.rows)
    assert [row[0] for row in steps.rows] == [
        "first task",
        "gather",
        "planner workflow",
        "plan",
        "validate",
        "execute",
        "conclude",
    ]
    assert [row[0] for row in growth.rows] == ["1-2"]


async def test_a_batch_is_measured_and_each_of_its_tickets_proved() -> None:
    report = await batch.run(batch.Size(tickets=(4,), at_once=2))
    assert report.figures["tickets/s, 4 tickets"] > 0
    speed, histories = report.tables
    assert str(speed.rows[-1][0]).endswith("-4")
    assert [row[0] for row in histories.rows] == ["events", "kB"]


async def test_the_inbox_is_measured_by_each_filter_and_while_it_is_open() -> None:
    report = await inbox.run(inbox.Size(waiting=30, requests=1, viewers=1, watched=0.5))
    pages, busy = report.tables
    assert [row[0] for row in pages.rows] == [
        "all",
        "by target",
        "by requester",
        "by rule",
        "by target and rule",
        "next page",
    ]
    assert all(figure > 0 for figure in report.figures.values())
    assert [row[0] for row in busy.rows] == ["dashboard", "Temporal server"]
