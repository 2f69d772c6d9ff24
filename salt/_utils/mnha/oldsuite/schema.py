"""The old suite's configuration file as JSON Schema, for editors that complete and check while one types.

`make generated` writes it to extras/old-configuration.schema.json, and a test keeps the two equal.
"""

from __future__ import annotations

import json
from typing import Any

from .file import OldConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> str:
    """The schema's text."""
    found = {"$schema": DIALECT, **_without_titles(OldConfig.model_json_schema())}
    found["title"] = "Configuration of a management-node VM, in the old suite's form"
    found["properties"]["$schema"] = {"type": "string"}
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _without_titles(value: Any) -> Any:
    """A schema without the titles that pydantic makes of the keys."""
    if isinstance(value, dict):
        return {
            key: _without_titles(one) for key, one in value.items() if not (key == "title" and isinstance(one, str))
        }
    return [_without_titles(one) for one in value] if isinstance(value, list) else value


if __name__ == "__main__":
    print(schema(), end="")
