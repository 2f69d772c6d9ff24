"""Everything that Salt loads is loaded here by its own loader: there, a module that fails to import just vanishes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import salt.config
import salt.loader
import yaml

from mnha.secrets import store

ROOT = Path(__file__).resolve().parents[2]
TREE = ROOT / "salt"
KINDS = ("modules", "states", "beacons", "runners", "pillar")
FILES = [(kind, path.stem) for kind in KINDS for path in sorted((TREE / f"_{kind}").glob("*.py"))]


def pillar() -> dict[str, Any]:
    """The example cluster, as its minions get it."""
    text = (ROOT / "pillar" / "clusters" / "example.sls").read_text()
    return yaml.safe_load(text)


@pytest.fixture(scope="module")
def minion_opts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A minion with its modules where `saltutil.sync_all` puts them."""
    root = tmp_path_factory.mktemp("minion")
    synced = root / "extmods"
    synced.mkdir()
    for kind in (*KINDS, "utils"):
        (synced / kind).symlink_to(TREE / f"_{kind}")
    opts = salt.config.minion_config(None)
    opts.update(
        id="node1", root_dir=str(root), cachedir=str(root / "cache"), extension_modules=str(synced),
        file_client="local", pillar=pillar(), test=False,
        grains={"id": "node1", "kernel": "Linux", "os_family": "Debian"},
    )  # fmt: skip
    return opts


@pytest.fixture(scope="module")
def master_opts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A master with the configuration file that the states write, its paths moved to this tree."""
    opts = salt.config.master_config(None)
    written = yaml.safe_load((TREE / "states/salt/files/master.conf").read_text().replace("/srv/mnha", str(ROOT)))
    return {**opts, **written, "root_dir": str(tmp_path_factory.mktemp("master"))}


class Told(logging.Handler):
    """Keeps the messages of all errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture(scope="module")
def told() -> Iterator[list[str]]:
    """The errors that Salt logs, in all tests: it loads a module once, mostly while it looks for another."""
    handler = Told()
    logging.getLogger("salt").addHandler(handler)
    yield handler.texts
    logging.getLogger("salt").removeHandler(handler)


@pytest.fixture(scope="module")
def loaders(minion_opts: dict[str, Any], master_opts: dict[str, Any], told: list[str]) -> dict[str, Any]:
    utils = salt.loader.utils(minion_opts)
    modules = salt.loader.minion_mods(minion_opts, utils=utils)
    return {
        "modules": modules,
        "states": salt.loader.states(minion_opts, modules, utils, None),
        "beacons": salt.loader.beacons(minion_opts, modules),
        "runners": salt.loader.runner(master_opts, utils=salt.loader.utils(master_opts)),
        "pillar": salt.loader.pillars(master_opts, modules),
    }


def functions(loader: Any, name: str) -> dict[str, Any]:
    """What the loader has of a module; asking for a name that cannot exist makes it load the module."""
    inner = getattr(loader, "_dict", loader) if name == "mnha_secrets" else loader
    _ = f"{name}.no such function" in inner
    found = {key.split(".", 1)[1]: inner[key] for key in list(inner._dict) if key.startswith(f"{name}.")}
    if not found:
        pytest.fail(f"{name} is not loaded: {inner.missing_modules.get(name, 'no reason given')!r}")
    return found


def own(found: dict[str, Any]) -> dict[str, Any]:
    """The functions that a user of the module sees."""
    return {name: function for name, function in found.items() if not name.startswith("_")}


@pytest.mark.parametrize(("kind", "name"), FILES)
def test_loads(loaders: dict[str, Any], told: list[str], kind: str, name: str) -> None:
    assert own(functions(loaders[kind], name))
    assert [text for text in told if name in text] == []


@pytest.mark.parametrize("name", [name for kind, name in FILES if kind == "beacons"])
def test_each_beacon_checks_its_configuration(loaders: dict[str, Any], name: str) -> None:
    assert {"validate", "beacon"} <= set(functions(loaders["beacons"], name))


@pytest.mark.parametrize("name", [name for kind, name in FILES if kind == "states"])
def test_each_state_has_its_execution_module(name: str) -> None:
    assert (TREE / "_modules" / f"{name}.py").is_file()


def test_configuration_is_read_from_the_pillar(loaders: dict[str, Any]) -> None:
    conf = loaders["modules"]["mnha_config.get"]()
    assert conf["node"] == "node1"
    assert conf["peers"] == ["node2", "node3"]
    assert conf["own"] == pillar()["mnha"]["cluster"]["nodes"]["node1"]
    assert loaders["modules"]["mnha_config.problems"]() == []


@pytest.fixture
def hand_out(master_opts: dict[str, Any], minion_opts: dict[str, Any], tmp_path: Path) -> Any:
    """The external pillar on a master that has the secrets of the example cluster and has accepted two of its nodes."""
    cluster = pillar()["mnha"]["cluster"]
    nodes = {name: list(node.values()) for name, node in cluster["nodes"].items()}
    store.bootstrap(tmp_path / "secrets" / "example", store.Plan("example", "example", nodes, True))
    for node in ("node1", "node2"):
        (tmp_path / "pki" / "minions").mkdir(parents=True, exist_ok=True)
        (tmp_path / "pki" / "minions" / node).write_text(f"key of {node}")
    opts = {**master_opts, "mnha_secrets_folder": str(tmp_path / "secrets"), "pki_dir": str(tmp_path / "pki")}
    return salt.loader.pillars(opts, salt.loader.minion_mods(minion_opts))["mnha_secrets"]


def test_a_node_that_is_a_master_gets_what_it_needs_to_serve(hand_out: Any) -> None:
    found = hand_out("node1", pillar())
    assert set(found) == {"mnha_secrets", "mnha_given_by", "mnha_build", "mnha_master"}
    assert found["mnha_master"]["minion_keys"] == {"node1": "key of node1", "node2": "key of node2"}
    assert "nodes/node3/guard-token" in found["mnha_master"]["secrets"]
    assert set(found["mnha_master"]["pillar_files"]) == {"top.sls", "clusters/example.sls"}
    assert found["mnha_master"]["pillar_others"] == ["defaults.yaml"]


def test_where_masters_are_elsewhere_a_node_gets_its_own_secrets_only(hand_out: Any) -> None:
    conf = pillar()
    conf["mnha"]["cluster"]["salt"] = {"masters_on_nodes": False, "masters": ["salt.example.net"]}
    assert set(hand_out("node1", conf)) == {"mnha_secrets", "mnha_given_by", "mnha_build"}


@pytest.mark.parametrize("minion", ["stranger", "node9"])
def test_a_minion_that_is_no_node_gets_no_secret(hand_out: Any, minion: str) -> None:
    assert hand_out(minion, pillar()) == {}


def test_a_minion_without_a_cluster_gets_no_secret(hand_out: Any) -> None:
    assert hand_out("node1", {}) == {}
    assert hand_out("node1", {"mnha": {"cluster": {"name": "other", "nodes": {"node1": {}}}}}) == {}


def test_a_wrong_pillar_is_told_once_and_in_full(minion_opts: dict[str, Any]) -> None:
    wrong = pillar()
    wrong["mnha"]["cluster"].update(watchdog="sometimes", image_folder="relative")
    opts = {**minion_opts, "pillar": wrong}
    modules = salt.loader.minion_mods(opts, utils=salt.loader.utils(opts), context={})
    assert len(modules["mnha_config.problems"]()) == 2
    with pytest.raises(Exception, match=r"(?s)image_folder.*watchdog"):
        modules["mnha_config.get"]()
    with pytest.raises(Exception, match="see above"):
        modules["mnha_config.get"]()


def test_a_minion_that_is_no_node_is_refused(minion_opts: dict[str, Any]) -> None:
    opts = {**minion_opts, "id": "stranger"}
    modules = salt.loader.minion_mods(opts, utils=salt.loader.utils(opts), context={})
    with pytest.raises(Exception, match="node1, node2, node3"):
        modules["mnha_config.get"]()
