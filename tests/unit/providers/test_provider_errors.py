"""What providers raise keeps its words on every way."""

from __future__ import annotations

import pickle

import pytest

from hodei.domain.causes import Failure
from hodei.providers.contract import ImageMissing, ProviderError

FAILURE = Failure(code="ERR_3001", message="There is no image x.")


@pytest.mark.parametrize(
    "error", [ProviderError(FAILURE, transient=True), ImageMissing(FAILURE, image="x")], ids=["any", "image"]
)
def test_an_error_is_the_same_after_it_went_to_another_process(error: ProviderError) -> None:
    again = pickle.loads(pickle.dumps(error))

    assert type(again) is type(error)
    assert str(again) == "There is no image x."
    assert vars(again) == vars(error)
