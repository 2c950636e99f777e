import pytest

from running import machine, precision


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("avx2 avx512f", "float32"),
        ("avx2 avx512_bf16", "bfloat16"),
        ("amx_bf16 amx_tile", "bfloat16"),
        (None, "float32"),
    ],
)
def test_the_fastest_precision_is_read_off_the_processors_flags(monkeypatch, flags, expected):
    monkeypatch.setattr(machine, "cpu", lambda field: {"flags": flags}[field])
    assert precision.fastest() == expected


@pytest.mark.parametrize("problem", [None, "no such kernel"])
def test_auto_falls_back_and_what_is_asked_for_is_refused(monkeypatch, problem):
    monkeypatch.setattr(precision, "fastest", lambda: "bfloat16")
    monkeypatch.setattr(precision, "bfloat16_problem", lambda: problem)
    assert precision.resolve_precision("float32") == ("float32", None)
    if problem is None:
        assert precision.resolve_precision("auto") == precision.resolve_precision("bfloat16") == ("bfloat16", None)
        return
    assert precision.resolve_precision("auto") == (
        "float32",
        "precision float32, since bfloat16 does not run here (no such kernel)",
    )
    with pytest.raises(precision.PrecisionError, match=r"bfloat16 does not run here \(no such kernel\); ask for auto"):
        precision.resolve_precision("bfloat16")


def test_bfloat16_in_software_is_told(monkeypatch):
    monkeypatch.setattr(precision, "fastest", lambda: "float32")
    monkeypatch.setattr(precision, "bfloat16_problem", lambda: None)
    assert precision.resolve_precision("auto") == ("float32", None)
    told = "this processor computes bfloat16 in software, slower than float32"
    assert precision.resolve_precision("bfloat16") == ("bfloat16", told)


def test_bfloat16_runs_where_the_flags_say_so():
    assert precision.fastest() == "float32" or precision.bfloat16_problem() is None
