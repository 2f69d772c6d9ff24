"""Which files of a pillar tree the masters of one cluster get: compiled by Salt itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import salt.config

from mnha.errors import FailedError
from mnha.master import pillar_tree

TOP = """base:
  'node[123]': [clusters.ours]
  'other*': [clusters.theirs]
"""
TREE = {
    "top.sls": TOP,
    "clusters/ours.sls": """{% from 'lib/names.jinja' import name %}
include: [shared.times]
mnha: {cluster: {name: {{ name }}}}
""",
    "clusters/theirs.sls": "password: theirs\n",
    "shared/times/init.sls": "{% import_yaml './more.yaml' as more %}\ntimes: {{ more }}\n",
    "shared/times/more.yaml": "a: 1\n",
    "lib/names.jinja": "{% set name = 'ours' %}",
    "lib/unused.jinja": "",
    "site/vault.yaml": "token: everybody's",
    "defaults.yaml": "",
    ".git/config": "",
}
OURS = {"top.sls", "clusters/ours.sls", "shared/times/init.sls", "shared/times/more.yaml", "lib/names.jinja"}
NODES = ["node1", "node2", "node3"]


@pytest.fixture
def opts(tmp_path: Path) -> dict[str, Any]:
    """A master's, with that tree."""
    for path, text in TREE.items():
        (tmp_path / "pillar" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pillar" / path).write_text(text)
    found = salt.config.master_config(None)
    found.update(root_dir=str(tmp_path), cachedir=str(tmp_path / "cache"), pki_dir=str(tmp_path / "pki"),
                 pillar_roots={"base": [str(tmp_path / "pillar")]})  # fmt: skip
    return found


def test_what_the_pillars_of_its_nodes_are_made_of_and_nothing_else(opts: dict[str, Any]) -> None:
    tree = pillar_tree.of_cluster(opts, NODES, ())
    assert set(tree.needed) == OURS
    assert tree.needed["clusters/ours.sls"] == TREE["clusters/ours.sls"]
    assert tree.others == ["clusters/theirs.sls", "defaults.yaml", "lib/unused.jinja", "site/vault.yaml"]


@pytest.mark.parametrize(
    ("patterns", "more"),
    [
        (["site/vault.yaml"], {"site/vault.yaml"}),
        (["lib/*"], {"lib/unused.jinja"}),
        (["*"], {"clusters/theirs.sls", "defaults.yaml", "lib/unused.jinja", "site/vault.yaml"}),
        (["nothing"], set()),
    ],
)
def test_what_the_operator_names_is_given_besides(opts: dict[str, Any], patterns: list[str], more: set[str]) -> None:
    assert set(pillar_tree.of_cluster(opts, NODES, patterns).needed) == OURS | more


def test_a_change_counts_at_once(opts: dict[str, Any], tmp_path: Path) -> None:
    pillar_tree.of_cluster(opts, NODES, ())
    path = tmp_path / "pillar/top.sls"
    path.write_text(TOP.replace("[clusters.ours]", "[clusters.ours, site.more]"))
    (tmp_path / "pillar/site/more.sls").write_text("more: 1")
    os.utime(path, (1, 1))
    assert set(pillar_tree.of_cluster(opts, NODES, ()).needed) == OURS | {"site/more.sls"}


def test_a_folder_that_can_not_be_the_right_one_is_refused(
    opts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pillar_tree, "MAX_FILES", 5)
    with pytest.raises(FailedError, match="more than 5 files below"):
        pillar_tree.of_cluster(opts, NODES, ())
