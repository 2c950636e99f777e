"""What the benchmarks stand on: the loops that they compare with, taking turns, the union of intervals, the table."""

import os
import time

import numpy as np
import pytest

from benchmarks import table, time_to_accuracy, turns
from benchmarks.center_updates import update_centers_by_loops
from benchmarks.whole_run import training_seconds


def test_the_nested_loops_pass_the_oracle_cases(real_path):
    with np.load(real_path("oracles/center_updates.npz"), allow_pickle=False) as cases:
        names = sorted({key.partition("/")[0] for key in cases})
        assert len(names) == 60
        for name in names:
            inputs = (cases[f"{name}/{key}"] for key in ("centers", "features", "labels", "alpha"))
            expected = cases[f"{name}/new_centers"]
            np.testing.assert_allclose(
                update_centers_by_loops(*inputs), expected, rtol=0, atol=1e-5 * np.abs(expected).max()
            )


def counter(path):
    """A step that writes down each of its calls."""

    def step():
        with path.open("a") as file:
            file.write(f"{path.name}\n")
            time.sleep(0.001)

    return step


def never_ready():
    time.sleep(600)


def test_peers_take_turns_of_so_many_steps(tmp_path):
    peers = {name: (counter, (tmp_path / name,)) for name in ("one", "two")}
    measured = turns.take_turns(peers, rounds=3, steps=4)
    for name in peers:
        assert measured[name].seconds.shape == (3,)
        assert (measured[name].seconds > 0.001).all()
        assert measured[name].megabytes > 5
        calls = (tmp_path / name).read_text().splitlines()
        assert len(calls) == turns.WARM_UP + 3 * (1 + 4)
    assert turns.ratio(measured, "one", "one") == 1


def dead():
    os._exit(1)


def test_a_peer_that_is_not_ready_in_time_or_dies_is_left_out(tmp_path):
    peers = {"ready": (counter, (tmp_path / "ready",)), "never": (never_ready, ()), "dead": (dead, ())}
    assert set(turns.take_turns(peers, rounds=1, steps=1, set_up_seconds=12)) == {"ready"}


def test_the_steps_of_all_sessions_are_added(tmp_path):
    (tmp_path / "sessions.csv").write_text("step,steps,seconds\n10,9,1.5\n20,9,2.25\n")
    assert training_seconds(tmp_path) == 3.75


@pytest.mark.parametrize(("seconds", "taken"), [(95, "recorded"), (105, "recorded"), (85, "new"), (115, "new")])
def test_the_peer_is_not_run_again_where_it_has_the_recorded_pace(tmp_path, monkeypatch, seconds, taken):
    recorded, new = [(375, 98.0, 0.5), (750, 200.0, 0.985)], [(375, float(seconds), 0.4), (750, 2.0 * seconds, 0.99)]
    lines = ["recipe,step,seconds,validation_accuracy", "ours,50,3,0.99"]
    lines += [f"pytorch,{step},{time},{accuracy}" for step, time, accuracy in recorded]
    (tmp_path / "time_to_accuracy.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(time_to_accuracy, "DOCS", tmp_path)
    monkeypatch.setattr(time_to_accuracy, "split", lambda: (None, None))
    monkeypatch.setattr(time_to_accuracy, "pytorch", lambda training, validation: iter(new))
    assert list(time_to_accuracy.peer()) == (recorded if taken == "recorded" else new)


def test_the_table_keeps_the_rows_that_were_not_measured_again(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "DOCS", tmp_path)
    monkeypatch.setattr(table, "machine", lambda: "this machine")
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    table.write([table.Row(2, "two, and a comma", "0.5", "≤ 1", "x"), table.Row(1, "one", "3", "≤ 4", "y")])
    monkeypatch.setattr(table, "machine", lambda: "another machine")
    table.write([table.Row(2, "two, and a comma", "0.6", "≤ 1", "z")])
    text = page.read_text()
    assert text.startswith(f"before\n{table.BEGIN}\n| # |")
    assert text.endswith(f"{table.END}\nafter\n")
    assert "old" not in text
    assert "Rows 1: this machine\n\nRows 2: another machine\n" in text
    rows = [line for line in text.splitlines() if line[:3] in ("| 1", "| 2")]
    assert [row.split(" | ")[:3] for row in rows] == [["| 1", "one", "3"], ["| 2", "two, and a comma", "0.6"]]


def test_a_table_of_another_page_is_in_the_order_of_its_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "DOCS", tmp_path)
    monkeypatch.setattr(table, "machine", lambda: "this machine")
    (tmp_path / "other.md").write_text(f"<!-- other -->\n{table.END}\n")
    for number in (10, "1+2", 3):
        table.write([table.Row(number, "what", "1 of 1", "all", "")], "other", "<!-- other -->")
    lines = (tmp_path / "other.md").read_text().splitlines()
    assert [line.split()[1] for line in lines if line.startswith("| ")] == ["#", "---", "1+2", "3", "10"]
