"""Charts: what is asked for in pixels is what stands in the file, and a file is whole or absent."""

import os
import subprocess
import sys

import pytest
from PIL import Image

from laco_export.charts import new_figure, save_chart


def test_a_chart_has_the_size_that_was_asked_for(tmp_path):
    figure = new_figure(640, 300)
    figure.add_subplot().plot([0, 1], [1, 2])
    save_chart(figure, tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as image:
        assert (image.format, image.size) == ("PNG", (640, 300))


def test_a_chart_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "chart.png"
    path.write_bytes(b"old")
    figure = new_figure(100, 100)
    monkeypatch.setattr(figure, "savefig", lambda *_, **__: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError):
        save_chart(figure, path)
    assert path.read_bytes() == b"old" and [entry.name for entry in tmp_path.iterdir()] == ["chart.png"]


def test_nothing_draws_before_a_chart_is_made():
    code = "import sys, laco_export.charts, laco_engines.bench.plot; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_user_without_matplotlibs_folders_does_not_get_them(tmp_path):
    code = (
        "import os; from laco_export.charts import new_figure, png_bytes; figure = new_figure(50, 50);"
        "figure.suptitle('x'); assert png_bytes(figure); assert 'MPLCONFIGDIR' not in os.environ"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MPL"))}
    (tmp_path / "temporary").mkdir()
    homes = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "temporary")}
    subprocess.run([sys.executable, "-c", code], check=True, env=kept | homes)
    assert [path.name for path in tmp_path.rglob("*")] == ["temporary"]


def test_an_svg_needs_no_font_and_is_the_same_each_time(tmp_path):
    texts = []
    for name in ("one.svg", "two.SVG"):
        figure = new_figure(320, 200)
        figure.suptitle("a title")
        figure.add_subplot().plot([0, 1], [1, 2])  # whose clip path has a name
        save_chart(figure, tmp_path / name)
        texts.append((tmp_path / name).read_text())
    assert texts[0] == texts[1]
    assert texts[0].count("<svg") == 1 and "<text" not in texts[0] and "a title" in texts[0]  # the title in a comment
