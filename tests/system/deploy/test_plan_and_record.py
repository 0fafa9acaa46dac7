"""With the real demo stack: a plan of what runs changes nothing, and a record of the format before keeps its stack."""

from __future__ import annotations

import json

from support.stack import Stack


def test_the_plan_of_what_runs_changes_nothing_and_an_older_record_keeps_the_stack(stack_home: Stack) -> None:
    stack_home.up()
    [model] = (stack_home.root / "data" / "models").glob("demo-*.gguf")
    shown = stack_home.run("plan", str(model), "--json").json
    assert [change["kind"] for change in shown["units"]] == ["same", "same"]

    file = stack_home.root / "state" / "stack.json"
    record = json.loads(file.read_text())
    assert record["format"] == 2
    assert record["plan"]["argv"] == shown["argv"]
    for key in ("format", "pins", "recurrent", "sliding_window"):
        del record[key]
    file.write_text(json.dumps(record | {"plan": {key: shown[key] for key in shown if key != "units"}}))

    assert stack_home.run("status", "--json").json["state"] == "ready"
    assert "prefill" in stack_home.run("status").out
    assert stack_home.run("restart", "--json").json["state"] == "ready"
    assert stack_home.run("logs", "-n", "5").out
    assert stack_home.run("down", "--json").json["was_running"] is True
    stack_home.up()
    again = json.loads(file.read_text())
    assert again["format"] == 2
    assert again["server"] == record["server"]
