"""The gallery: each bug is found, the same without it passes, and its training shows what it does."""

import re
import time
from urllib.parse import urlparse

import numpy as np
import pytest
from named import RIGHTLY, UNNAMED, WRONGLY, judged, of_bug

from scratchgen.cli import main
from scratchgen.commands.gallery import chart
from scratchgen.gradcheck import check
from scratchgen.gradcheck.gallery import BUGS, SUBJECTS, find
from scratchgen.gradcheck.gallery.models import DISTANCE

SEEN = [bug for bug in BUGS if bug.caught_by != "objective"]  # by check(); of the others test_objective.py
by_name = {"ids": lambda bug: bug.name}


@pytest.mark.parametrize("bug", SEEN, **by_name)
def test_the_bug_is_found_and_the_same_without_it_passes(bug):
    case = bug.make(np.random.default_rng(10))
    report = check(case.wrong, *case.inputs, rng=np.random.default_rng(0))
    assert report.verdict == "WRONG", report
    by_its_gradient = "raised" not in str(report) or "needs (3, 4)" in str(report)
    assert by_its_gradient, report
    report = check(case.right, *case.inputs, rng=np.random.default_rng(0))
    assert report.ok, report


@pytest.mark.slow
@pytest.mark.parametrize("bug", SEEN, **by_name)
def test_caught_by_says_which_part_of_the_check_sees_it(bug):
    case = bug.make(np.random.default_rng(1))
    assert check(case.wrong, *case.inputs, contract_too=False).ok == (bug.caught_by == "contract")


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, **by_name)
def test_both_trainings_are_finite_and_quick_and_begin_alike(bug):
    begin = time.process_time()
    with_it, without = bug.train(True), bug.train(False)
    assert time.process_time() - begin < 4
    for curve in (with_it, without):
        assert np.isfinite(curve).all()
        assert all(type(value) is float for value in curve)
    assert 1 <= len(with_it) <= len(without)
    if bug.measure in ("loss", DISTANCE):  # others may go up, or measure what the bug changes at once
        assert bug.train(True) == with_it, "the same each time"
        assert with_it[0] == without[0]
        assert min(without[len(without) // 2 :]) < 0.9 * without[0], "it learns without the bug"


def test_what_an_entry_says():
    names = [bug.name for bug in BUGS]
    assert len(set(names)) == len(names)
    for bug in BUGS:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", bug.name)
        assert all(text.strip() for text in (bug.title, bug.right, bug.wrong, bug.symptom, bug.cause))
        assert bug.right != bug.wrong
        re.compile(bug.cause)
        assert not re.search(bug.cause, ""), "a hint that says nothing names nothing"
        for address in bug.sources:
            parts = urlparse(address)
            assert (parts.scheme, parts.netloc) in (("https", "github.com"), ("https", "community.deeplearning.ai"))
            assert re.fullmatch(r"/[\w.-]+/[\w.-]+/(issues|pull)/\d+|/t/[\w/-]+|/[\w./-]+\.py", parts.path), address


def test_an_entry_is_found_by_its_name():
    assert find("softmax-diagonal").title.startswith("softmax")
    with pytest.raises(KeyError, match="did you mean softmax-diagonal"):
        find("softmax-diagnoal")


# --- whether hints name the cause ---


def test_figures_alone_name_nothing():
    row = judged("gallery", "a", False, ["the sign is wrong"], "transposed")
    assert row.named == WRONGLY
    for said in (
        "exactly 1.73205 times the true gradient",
        "12 of 24 elements are wrong",
        "right at the values given, wrong with equal inputs: 2 of 4 probes are wrong",
        "right at the values given, wrong with large inputs",
        "cosine near 1: the direction is nearly right, look for a small term",
    ):
        assert judged("gallery", "a", False, [said], "transposed").named == UNNAMED, said
    assert judged("gallery", "a", False, [], "transposed").named == UNNAMED
    assert judged("gallery", "a", False, ["1 of 4 elements are wrong", "transposed"], "transposed").named == RIGHTLY
    assert of_bug(find("wrong-sign")).named == RIGHTLY


UNNAMED_ARE = {"matrix-product-for-elementwise"}  # of 72: `python tests/named.py`


@pytest.mark.parametrize("bug", SEEN, **by_name)
def test_its_cause_is_named(bug):
    row = of_bug(bug)
    assert row.found
    assert row.named == (UNNAMED if bug.name in UNNAMED_ARE else RIGHTLY), row.hint


# --- the command ---


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*args):
        status = main(["gradcheck", *args])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_the_list_has_a_line_for_each(run):
    status, out, _ = run("--gallery")
    assert status == 0
    lines = out.splitlines()
    text = " ".join(out.split())
    for bug in BUGS:
        assert sum(line.startswith(f"  {bug.name} ") for line in lines) == 1
        mark = {"gradient": "", "contract": " +", "objective": " *"}[bug.caught_by]
        assert f"{bug.name} {bug.title}{mark}" in text
    assert all(len(line) <= 100 for line in lines)
    headings = [line for line in lines if line[:1].isupper()]
    assert headings == list(SUBJECTS)


@pytest.mark.parametrize("name", ["softmax-diagonal", "cache-overwritten", "gan-detached"])
def test_one_is_shown_live(run, tmp_path, name):
    status, out, _ = run("--gallery", name)
    bug = find(name)
    assert status == 0
    assert all(text in out for text in (bug.title, bug.wrong, bug.right, *bug.sources))
    assert "WRONG" in out or "FAULT" in out
    assert "Without the bug: right" in out
    assert "│" in out
    assert "·" in out
    assert "x" in out
    assert list(tmp_path.iterdir()) == [], "it draws no picture unasked"
    assert out.splitlines()[-1] == f"--output {name}.png draws the two curves as a picture"
    assert run("--gallery", name, "--output", "mine.png")[1].splitlines()[-1] == "mine.png"
    assert (tmp_path / "mine.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", ["kl-averaged", "both-real"])
def test_what_a_gradient_check_cannot_see_is_shown_by_the_check_of_objectives(run, name):
    status, out, _ = run("--gallery", name)
    assert status == 0
    assert "A gradient check cannot see it" in out
    assert re.search(find(name).cause, out)
    assert "Without the bug: right" in out


def test_no_picture_is_overwritten_unless_asked_for(run, tmp_path):
    (tmp_path / "gallery_wrong-sign.png").write_bytes(b"mine")
    status, _, said = run("--gallery", "wrong-sign", "--out", "gallery_wrong-sign.png")
    assert status == 2
    assert "--force replaces it" in said
    assert (tmp_path / "gallery_wrong-sign.png").read_bytes() == b"mine"
    assert run("--gallery", "wrong-sign", "--out", "gallery_wrong-sign.png", "--force")[0] == 0
    assert (tmp_path / "gallery_wrong-sign.png").read_bytes()[:4] == b"\x89PNG"


def test_the_forgotten_half_of_a_vae_ends_worse():
    bug = find("vae-half-forgotten")
    assert bug.train(True)[-1] > 1.02 * bug.train(False)[-1]


def test_status_1_where_the_check_does_not_find_it(run):
    assert run("--gallery", "cache-overwritten", "--gradients-only")[0] == 1
    assert run("--gallery", "a-thousandth-off", "--tolerance", "0.01")[0] == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--gallery", "softmx"], "did you mean softmax-diagonal?"),
        (["--gallery", "qqq"], "the gallery has no qqq"),
        (["--gallery", "wrong-sign", "Dense"], "leave out the other names"),
        (["--mutants", "--gallery"], "leave out the names"),
        (["--objective", "--gallery", "kl-averaged"], "ask for one of them"),
        (["--gallery", "--output", "x.png"], "go with --gallery NAME"),
        (["--force"], "go with --gallery NAME"),
        (["--gallery", "wrong-sign", "--output", "x.jpg"], "ends in .png"),
        (["--gallery", "wrong-sign", "--output", "no/x.png"], "there is no folder no"),
    ],
)
def test_what_it_cannot_do_it_says_in_a_sentence(run, tmp_path, args, said):
    status, out, err = run(*args)
    assert (status, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_chart_shows_both_curves_from_top_to_bottom():
    lines = chart([1.0, 0.5, 0.25], [1.0, 0.9, 0.8])
    assert lines[0].split("│")[0].strip() == "1"
    assert "·" in lines[11]
    assert "x" not in lines[11]
    assert lines[11].split("│")[0].strip() == "0.25"
    assert lines[-1].split() == ["0", "3"]
    assert "logarithmic" in chart([100.0, 1.0], [100.0, 50.0])[-1]
    assert all(chart([2.0], [2.0]))
