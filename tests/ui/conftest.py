"""The application of the API's tests."""

from tests.api.conftest import api, fresh_api

__all__ = ["api", "fresh_api"]
