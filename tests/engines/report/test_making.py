import pytest

from laco_engines.report.making import Report, write_page
from laco_export.errors import OutputExistsError


def test_a_page_that_came_to_stand_there_meanwhile_is_left_alone(tmp_path):
    path = tmp_path / "report.html"
    write_page(path, Report({}, "first ‖"))
    with pytest.raises(OutputExistsError):
        write_page(path, Report({}, "second"))
    assert path.read_text(encoding="utf-8") == "first ‖"
    write_page(path, Report({}, "second"), force=True)
    assert path.read_text() == "second" and list(tmp_path.iterdir()) == [path]
