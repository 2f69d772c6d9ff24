"""Salt's Python has lost a package, as after an upgrade: modules vanish. That is told, and `state.apply` repairs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.example import example_with
from tests.support.local_salt import LocalSalt

BROKEN = "raise ImportError('not for this version of Python')"
REMEDY = "`salt node1 state.apply states.salt.packages` repairs it"


class Node:
    def __init__(self, folder: Path) -> None:
        self.salt, self.folder = LocalSalt(folder / "salt", example_with({})), folder / "python"
        self.folder.mkdir()
        assert self.salt.call("saltutil.sync_all")[0] == 0

    def lose(self, *packages: str) -> dict[str, str]:
        """The environment of a Python without these packages."""
        for name in packages:
            (self.folder / f"{name}.py").write_text(BROKEN)
        return {"PYTHONPATH": str(self.folder)}


@pytest.fixture(scope="module")
def _node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    return Node(tmp_path_factory.mktemp("node"))


@pytest.fixture
def node(_node: Node) -> Node:
    for path in _node.folder.glob("*.py"):
        path.unlink()
    return _node


def test_where_all_is_there_nothing_is_told_and_all_layers_are_applied(node: Node) -> None:
    assert node.salt.call("mnha_service.lost")[:2] == (0, [])
    _, top, _ = node.salt.call("state.show_top")
    assert top["base"][0] == "states.host"


@pytest.mark.parametrize(
    ("package", "modules"),
    [("consul", "consul_ha, guard"), ("pydantic", "consul_ha, mnha_config, mnvm")],
)
def test_a_lost_package_is_told_with_the_modules_that_it_takes_along(node: Node, package: str, modules: str) -> None:
    code, told, printed = node.salt.call("mnha_service.lost", env=node.lose(package))
    assert (code, told) == (1, [
        f"Salt's own Python misses {package} (not for this version of Python)",
        f"Salt can't load {modules}: {REMEDY}",
    ]), printed  # fmt: skip


@pytest.mark.nightly
@pytest.mark.parametrize("package", ["consul", "pydantic"])
def test_a_highstate_then_repairs_and_asks_for_another(node: Node, package: str) -> None:
    """Dry, for it would install for good; that it is what would be done is seen by its states."""
    env = node.lose(package)
    assert node.salt.call("state.show_top", env=env)[1] == {"base": ["states.salt.repaired"]}
    code, states, printed = node.salt.call("state.apply", "test=True", env=env)
    assert isinstance(states, dict), printed
    by_id = {f"{one['__id__']} {tag.rpartition('-')[2]}": one for tag, one in states.items()}
    assert by_id["salt_python_packages run"]["result"] is None
    assert "they would be installed" in by_id["salt_modules_repaired fail_without_changes"]["name"]
    assert code != 0


@pytest.mark.nightly
def test_modules_that_were_never_brought_are_no_lost_packages(tmp_path: Path) -> None:
    """A new node: they come with the run itself."""
    fresh = LocalSalt(tmp_path, example_with({}))
    assert fresh.call("state.show_top")[1]["base"][0] == "states.host"
