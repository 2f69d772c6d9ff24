"""The guard's configuration, `/etc/mnha/guard.json`: `mnha.config.guard` writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError

CONFIG_VERSION = 1


def load(path: Path) -> dict[str, Any]:
    """Read the guard's configuration.

    :raises ConfigurationError: it is missing, not JSON, or of another version.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}; apply states.guard") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not JSON: {error}; apply states.guard") from error
    if not isinstance(config, dict) or config.get("v") != CONFIG_VERSION:
        raise ConfigurationError(
            f"{path} is not of version {CONFIG_VERSION}, which this guard knows; apply states.guard"
        )
    return config


def run_folder(config: dict[str, Any]) -> Path:
    """Where the socket lies, and what must not outlive a boot."""
    return Path(config["socket"]).parent
