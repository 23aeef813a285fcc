"""What visitors read, from Streamlit's own tester: no browser, and no server."""

import os
import re
import time

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from cifar_pipeline.app.photographs import AT_ONCE
from cifar_pipeline.serving.exported import ExportedModel
from cifar_pipeline.serving.photographs import read_photograph
from tests.app.conftest import BLUE, DARK, GREEN, RED, photograph, write_board
from tests.serving.hostile import READABLE, REFUSED

SCRIPT = "from cifar_pipeline.app import {0}; {0}.show()"
VERDICT = re.compile(r'class="verdict">(.*?)</p>')
NOTICE = re.compile(r'class="notice" role="status">(.*?)</p>')
SHARE = re.compile(r'class="share">(.*?)</span>')


def view(name: str) -> AppTest:
    return AppTest.from_string(SCRIPT.format(name), default_timeout=30)


def shown(at: AppTest) -> str:
    """All that the page says."""
    assert not at.exception
    return "\n".join(
        [
            *(element.proto.body for element in at.get("html")),
            *(element.value for element in (*at.info, *at.warning, *at.caption, *at.markdown)),
        ]
    )


def with_photographs(*files: tuple[str, bytes]) -> AppTest:
    at = view("photographs").run()
    at.file_uploader[0].set_value([(name, content, "image/png") for name, content in files])
    return at.run()


def test_a_photograph_is_answered_as_the_exported_model_answers(home):
    content = photograph((200, 90, 10))
    told = shown(with_photographs(("mine.png", content)))
    model = ExportedModel(home.export("first") / "model.onnx")
    answers = model.answer(read_photograph(content).pixels[None])
    assert VERDICT.findall(told) == ["generated 03"]
    assert "generated group 03, says first" in told
    assert "PNG, 40×30 pixels" in told
    best = np.sort(answers.probabilities[0])[::-1][:5]
    assert [f"{share:.0%}" for share in best if share > 0.01] == SHARE.findall(told)[:2]
    assert len(SHARE.findall(told)) == 5
    assert told.count('alt="Training image: ') == 6
    assert told.count('src="data:image/png;base64,') == 1 + 6  # what it sees, and these
    assert told.count('src="data:image/jpeg;base64,') == 2  # the photograph, and where it looked


def test_photographs_are_answered_by_two_models_side_by_side(home):
    at = with_photographs(("a.png", photograph(RED)), ("b.png", photograph(BLUE, "GIF")))
    assert VERDICT.findall(shown(at)) == ["generated 03", "generated 20"]
    at.selectbox(key="beside").select("second").run()
    assert VERDICT.findall(shown(at)) == [
        "generated 03",
        "generated 44",
        "generated 20",
        "generated 61",
    ]
    at.selectbox(key="model").select("second").run()
    assert VERDICT.findall(shown(at)) == ["generated 44", "generated 61"]


def test_none_of_these_is_said_plainly(home):
    told = shown(with_photographs(("night.png", photograph(DARK))))
    assert VERDICT.findall(told) == ["None of these"]
    assert "first is too unsure which of its 100 classes" in told


def test_a_photograph_from_the_camera(home):
    at = view("photographs").run()
    assert not at.camera_input  # it asks for the camera, so it comes when it is wanted
    at.segmented_control[0].select("Camera").run()
    at.camera_input[0].set_value(("photo.jpg", photograph(GREEN, "JPEG"), "image/jpeg")).run()
    assert VERDICT.findall(shown(at)) == ["generated 10"]


def test_no_more_than_a_few_are_shown_at_once(home):
    files = [(f"{place}.png", photograph(RED)) for place in range(AT_ONCE + 2)]
    at = with_photographs(*files)
    assert len(VERDICT.findall(shown(at))) == AT_ONCE
    assert f"The first {AT_ONCE} of {AT_ONCE + 2} are shown." in shown(at)


def test_the_name_of_a_file_is_text(home):
    told = shown(with_photographs(('<img src=x onerror="x()">.png', photograph(RED))))
    assert "<img src=x" not in told
    assert "&lt;img src=x" in told


def test_hostile_files_get_a_sentence_each_and_the_others_an_answer(home):
    at = view("photographs").run()
    for name, make in REFUSED.items():
        files = [(name, make(), "image/png"), ("good.png", photograph(RED), "image/png")]
        began = time.process_time()
        told = shown(at.file_uploader[0].set_value(files).run())
        assert time.process_time() - began < 2, name
        (sentence,) = NOTICE.findall(told)
        assert sentence.startswith((f"{name}: the ", f"{name}: this is ")), sentence
        assert "object at 0x" not in sentence
        assert VERDICT.findall(told) == ["generated 03"], name


def test_odd_files_are_answered(home):
    files = [(name, make()) for name, make in READABLE.items()]
    told = shown(with_photographs(*files))
    assert len(VERDICT.findall(told)) == len(READABLE)
    assert "alert(1)" not in told


def test_a_model_that_is_exported_again_is_loaded_again(home):
    at = with_photographs(("a.png", photograph(RED)))
    file = home.export("first") / "model.onnx"
    file.write_bytes((home.export("second") / "model.onnx").read_bytes())
    os.utime(file, (1, 1))
    assert VERDICT.findall(shown(at.run())) == ["generated 44"]


def test_a_damaged_model_and_missing_parts_are_said_where_they_are_missing(home):
    (home.export("first") / "neighbours.npz").write_bytes(b"PK")
    (home.export("second") / "model.onnx").write_bytes(b"nothing")
    at = with_photographs(("a.png", photograph(RED)))
    at.selectbox(key="beside").select("second").run()
    told = shown(at)
    assert VERDICT.findall(told) == ["generated 03"]
    assert "No similar training images are shown" in told
    assert "data/exports/first/neighbours.npz is damaged" in told
    assert "data/exports/second/model.onnx is damaged or no ONNX file" in told
    assert str(home.root) not in told
    (home.export("first") / "neighbours.npz").unlink()
    assert "make it with `cifar export first`" in shown(at.run())


def test_an_empty_workspace_says_which_command_fills_it(empty):
    assert "`cifar export NAME`" in shown(view("photographs").run())
    assert "`cifar run`" in shown(view("test_split").run())
    assert "`cifar run`" in shown(view("leaderboard").run())


def cards(at: AppTest) -> int:
    return shown(at).count("<details>")


def test_the_test_split_is_shown_in_pages_and_filtered(home):
    at = view("test_split").run()
    assert "200 images, 150 of them classified correctly" in shown(at)
    assert cards(at) == 48
    at.pagination[0].set_value(5).run()
    assert cards(at) == 8
    at.selectbox(key="show").select("mistakes").run()
    assert cards(at) == 48  # the first page again
    at.selectbox(key="superclass").select("generated_group_07").run()
    at.selectbox(key="class").select("generated_07").run()
    found = cards(at)
    assert 0 < found < 48
    assert shown(at).count("<b>generated 07</b>") == found
    at.selectbox(key="show").select("all images").run()
    assert cards(at) == 2


def test_filters_are_in_the_address(home):
    at = view("test_split")
    at.query_params.update({"show": "near-duplicates", "superclass": "generated group 07"})
    at.run()
    assert at.selectbox(key="show").value == "near-duplicates"
    assert at.selectbox(key="superclass").value == "generated_group_07"
    at.query_params.clear()
    at.query_params.update({"show": "near-duplicates", "class": "nonsense", "page": "900"})
    assert shown(at.run())


def test_near_duplicates_are_shown_with_what_they_are_like(home):
    at = view("test_split").run()
    at.selectbox(key="show").select("near-duplicates").run()
    assert cards(at) == 2
    similar = re.findall(r"(\w+) image, similarity ([\d.]+)", shown(at))
    assert similar == [("training", "0.97"), ("training", "0.80")]
    assert shown(at).count("<img") == 4


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (
            lambda home: (home.model("first") / "provenance.json").write_text(
                '{"model_sha256": "other"}'
            ),
            "first has been trained anew since",
        ),
        (lambda home: home.predictions("first").write_bytes(b"PAR1"), "is damaged"),
        (lambda home: home.table.parent.unlink(), "data/table/cifar100.parquet is missing"),
        (lambda home: (home.test_subsets / "duplicates.parquet").unlink(), "is missing"),
    ],
    ids=["stale", "damaged", "no table", "no near-duplicates"],
)
def test_what_is_stale_or_missing_is_said(home, damage, why):
    damage(home)
    told = shown(view("test_split").run())
    assert why in told
    assert "cifar run" in told or "make run" in told or "materialize" in told
    assert "<details>" not in told


def test_the_leaderboard_links_to_reports_and_says_when_it_is_stale(home):
    write_board(home)
    at = view("leaderboard").run()
    assert '<a href="pages/reports/first/index.html">first</a>' in shown(at)
    assert "Stale" not in shown(at)
    (home.report("first") / "metrics.json").write_text('{"top1": 0.75, "nll": 0.5}')
    assert "Stale: first has another report by now" in shown(at.run())
    (home.leaderboard / "leaderboard.csv").write_text("model\nfirst\n")
    assert "it is damaged, or an older release wrote it; materialize" in shown(at.run())
