"""The guest's password is reset by its agent: shown once to who asked, and kept nowhere else."""

from __future__ import annotations

import base64
import json
import warnings

from lab.cluster import Cluster
from lab.provision import MASTER
from lab.settings import VM_NAME
from tests.support.scene import Scene, eventually

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import crypt

SHADOW = "/etc/shadow"


def agent(cluster: Cluster, node: str, execute: str, **arguments: object) -> dict:
    """What the guest's agent says."""
    words = json.dumps({"execute": execute, "arguments": arguments})
    done = cluster.run(node, ["virsh", "qemu-agent-command", VM_NAME, words], check=True)
    return json.loads(done.stdout)["return"]


def hash_of(scene: Scene, user: str) -> str:
    """The hash of a user's password in the guest."""
    handle = agent(scene.cluster, scene.holder, "guest-file-open", path=SHADOW)
    text = agent(scene.cluster, scene.holder, "guest-file-read", handle=handle)["buf-b64"]
    agent(scene.cluster, scene.holder, "guest-file-close", handle=handle)
    lines = [line.split(":") for line in base64.b64decode(text).decode().splitlines()]
    return next(one[1] for one in lines if one[0] == user)


def test_a_password_is_made_up_shown_once_and_works_in_the_guest(scene: Scene) -> None:
    eventually(lambda: hash_of(scene, "root"), 60, "the guest's agent is there")
    code, told, printed = scene.salt_run(MASTER, "reset_password")
    assert (code, told["node"]) == (0, scene.holder), printed
    (line,) = (one for one in printed.splitlines() if "shown this once" in one)
    password = line.rsplit(": ", 1)[1]
    assert password not in json.dumps(told)
    found = hash_of(scene, "root")
    assert crypt.crypt(password, found) == found
    places = ["/var/cache/salt", "/var/log/salt"]
    for node in scene.cluster.names:
        assert scene.cluster.run(node, ["grep", "-rlF", password, *places]).stdout == "", node


def test_a_user_that_is_not_there_gets_none(scene: Scene) -> None:
    eventually(lambda: hash_of(scene, "root"), 60, "the guest's agent is there")
    code, told, _ = scene.salt_run(MASTER, "reset_password", "user=nobody-at-all")
    assert code == 1
    assert "the guest did not change the password of nobody-at-all" in told["comment"]
