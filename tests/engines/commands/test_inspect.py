"""``laco-engine inspect``: the manifest in words, and ``--graph``."""

from PIL import Image

from laco_export.bundle import open_bundle
from laco_export.summary import summary_lines


def test_inspect_prints_the_exports_table_again(bundle_folder, run):
    code, out, _ = run("inspect", bundle_folder)
    assert code == 0
    flat = " ".join(out.replace("│", " ").split())
    for label, text in summary_lines(open_bundle(bundle_folder).manifest):
        assert label in flat
        assert text.split()[0] in flat
    for text in ("FLOPs", "of a merge at @1", "seconds", "together", "operator", "as traced", "exported"):
        assert text in flat
    assert "(≥ 0.9999995)" in flat  # each number beside its tolerance


def test_inspect_draws_the_merge(bundle_folder, run, tmp_path):
    code, out, _ = run("inspect", bundle_folder, "--graph", tmp_path / "merge.png")
    assert code == 0
    assert "merge.png" in out
    image = Image.open(tmp_path / "merge.png")
    assert image.format == "PNG"
    assert image.height > 800  # a dozen rows
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ""] == ["merge.png"]


def test_inspect_draws_png_alone(bundle_folder, run, tmp_path):
    code, _, err = run("inspect", bundle_folder, "--graph", tmp_path / "merge.svg")
    assert code == 2
    assert "a name that ends in .png" in err
    assert list(tmp_path.iterdir()) == []
