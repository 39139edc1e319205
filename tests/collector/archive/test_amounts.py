"""Texts become amounts exactly, or not at all."""

import re
from decimal import Decimal

import pyarrow as pa
from hypothesis import given, strategies as st

from collector.tables.arrow import amounts_of

_PIECES = ["0", "1", "00", "7", "9" * 20, "-", "e", ".", "é", " ", "." + "0" * 18, "." + "3" * 18]
_spelled = st.lists(st.sampled_from(_PIECES), max_size=3).map("".join)
_right = st.integers(0, 10**37).map(lambda n: f"{n // 10**18}.{n % 10**18:018}")
_fits = re.compile(r"-?(0|[1-9][0-9]{0,19})\.[0-9]{18}")


@given(st.lists(_right | _spelled, max_size=4))
def test_texts_are_exact_amounts_or_refused(texts: list[str]) -> None:
    found = amounts_of(pa.array(texts, pa.string()))
    if all(_fits.fullmatch(text) for text in texts):
        assert found is not None
        assert found.to_pylist() == [Decimal(text) for text in texts]
    else:
        assert found is None
