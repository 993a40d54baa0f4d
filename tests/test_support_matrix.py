"""The page of what is supported says what is: ``python -m tests.support_matrix`` writes it anew."""

import pytest

pytest.importorskip("ml_dtypes")

from tests import support_matrix


def test_the_page_is_up_to_date():
    assert support_matrix.PAGE.read_text() == support_matrix.page()
