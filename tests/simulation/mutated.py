"""A plugin of pytest: the tests of this run see the known-bad variant that MNHA_MUTANT names, and should fail."""

from __future__ import annotations

import contextlib
import os

import pytest

from .mutants import MUTANTS

_APPLIED = contextlib.ExitStack()


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is imported."""
    _APPLIED.enter_context(MUTANTS[os.environ["MNHA_MUTANT"]].applied())


def pytest_unconfigure(config: pytest.Config) -> None:
    """The real one again."""
    _APPLIED.close()
