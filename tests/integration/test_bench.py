"""The benchmarks run: in the smallest size, to be sure that they still do."""

from bench import pipeline


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
