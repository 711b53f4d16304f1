"""Other libraries' chatter is held back, their errors are not, and everything is restored."""

import logging
import warnings

import pytest

from laco_export.quiet import quiet_libraries


def test_warnings_and_log_lines_are_held_back(caplog, recwarn):
    logger = logging.getLogger("chatty")
    with quiet_libraries():
        logger.warning("hidden")
        warnings.warn("hidden", stacklevel=1)
        logger.error("shown")
    logger.warning("shown again")
    assert [record.getMessage() for record in caplog.records] == ["shown", "shown again"]
    assert not recwarn.list


def test_everything_is_restored_after_an_error(caplog):
    before = logging.root.manager.disable
    with pytest.raises(RuntimeError), quiet_libraries(), quiet_libraries():
        raise RuntimeError
    assert logging.root.manager.disable == before
    with pytest.warns(UserWarning, match="seen"):
        warnings.warn("seen", stacklevel=1)
