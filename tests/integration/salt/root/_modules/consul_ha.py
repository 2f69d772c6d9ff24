"""Tests only: the functions of consul_ha over a folder that all minions share, in place of Consul.

The lease and the wish are the fake guards' (`lease.json`, written by the test); all else are files, one a key.
"""

import json
import os
import pathlib
import time

from salt.exceptions import CommandExecutionError

from mnha.secrets import sealed

__virtualname__ = "consul_ha"


def __virtual__():
    return __virtualname__


def _folder():
    folder = pathlib.Path(__opts__["mnha_test_folder"])
    if (folder / "consul_is_down").exists():
        raise CommandExecutionError("no Consul server can do it (127.0.0.1: refused)")
    return folder / "kv"


def _path(key):
    return _folder() / key.replace("/", "%")


def quorum():
    """Whether Consul is up.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.quorum
    """
    _folder()
    return True


def make_roles(sealed_token, wanted):
    """Note with which token a master asked for it, in a file named by what is wanted.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.make_roles TOKEN
    """
    key = (pathlib.Path(__opts__["pki_dir"]) / "minion.pem").read_text()
    (_folder().parent / f"roles-{__opts__['id']}-{wanted}").write_text(sealed.unseal(sealed_token, key))
    return {"token x": {"old": None, "new": "x"}}


def members():
    """The members.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.members
    """
    return json.loads((_folder().parent / "members.json").read_text())


def kv_get(key, consistent=False):
    """A key.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.kv_get config
    """
    try:
        value = _read(_path(key))
    except FileNotFoundError:
        return None
    return {"value": value, "index": value.get("index", 1) if isinstance(value, dict) else 1}


def kv_list(prefix):
    """Keys below a prefix.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.kv_list nodes/
    """
    found = {}
    for path in sorted(_folder().iterdir()):
        key = path.name.replace("%", "/")
        if key.startswith(prefix) and not key.endswith(".new"):
            found[key] = _read(path)
    return found


def _read(path):
    """What a record says; None if it can't be read."""
    try:
        value = json.loads(path.read_text())
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def snapshot(prefixes):
    """Keys below prefixes, the members, and the leader.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.snapshot '[nodes/]'
    """
    keys = {key: value for prefix in prefixes for key, value in kv_list(prefix).items()}
    faults = {key: "it is no JSON object" for key, value in keys.items() if value is None}
    return {"keys": keys, "faults": faults, "members": members(), "leader": "127.0.0.1:8300"}


def kv_put(key, value):
    """Write a key.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.kv_put config '{}'
    """
    new = _path(key + f".{os.getpid()}.new")
    new.write_text(json.dumps(value))
    new.replace(_path(key))
    return True


def kv_cas(key, value, index):
    """Write a key; nothing writes at the same moment here.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.kv_cas x 1 1
    """
    return kv_put(key, value)


def kv_prune(prefix, keep=500):
    """Nothing to prune.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.kv_prune history/ 500
    """
    return 0


def claim(action, by=None):
    """Claim by a file that must not exist yet.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.claim x
    """
    who = by or __opts__["id"]
    try:
        with _path(f"actions/{action}").open("x") as file:
            json.dump({"by": who, "at": time.time()}, file)
    except FileExistsError:
        return {"claimed": False, "by": json.loads(_path(f"actions/{action}").read_text())["by"]}
    return {"claimed": True, "by": who}
