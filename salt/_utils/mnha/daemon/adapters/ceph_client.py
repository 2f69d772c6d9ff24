"""What is asked of Ceph, as a program.

librados may hang, or end its process by an assertion. So it is this process that does, and never the guard. It is begun
anew each time, by its path and without the package, with the system's own Python, to which python3-rados belongs, and
isolated (``-I``): else `import rbd` would find the file of that name beside it.

``ceph_client.py VERB CONF USER POOL IMAGE …`` prints one line of JSON. What goes wrong stands in it as `error`.

``… look … NAME`` writes, reads and removes a probe object of that name and looks at the image. `storage`, `full` and
`image` say what is wrong, or nothing; `lost`: Ceph does not answer. Nothing of the image is locked or changed.

``… clients …`` tells the addresses, with their nonce, of all clients that have the image open to write, or have locked
it: a watch is gone 30 s after the client's last sign of life, a lock stays. One that was locked by hand is an error.

``… block … EXPIRE_S ADDRESS…`` has Ceph refuse these clients for so many seconds, makes sure of it, and takes their
locks away. `epoch` is that of Ceph's map from which on they are refused.
"""

import errno
import json
import os
import sys
from collections.abc import Callable
from typing import Any

try:
    import rados
    import rbd
except ImportError as missing:
    print(json.dumps({"error": f"{missing.name} is missing: apply states.storage"}), flush=True)
    sys.exit(0)

BLOCK = 4096
FULL_TRY = 64
"""librados' LIBRADOS_OPERATION_FULL_TRY, which its Python does not name: a write to a full pool fails, not waits."""
OWN_LOCK = "auto "
"""How librbd begins the cookie of a lock that it takes by itself."""
NO_ANSWER = {
    errno.ETIMEDOUT, errno.EIO, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNREFUSED, errno.ECONNRESET,
    errno.ENOTCONN, errno.ESHUTDOWN,
}  # fmt: skip
"""Errors of a Ceph that is out of reach, or that refuses this node; of all others it has told them itself."""


def said(failure: Exception) -> str:
    """An error of librados or librbd, for people."""
    number = abs(getattr(failure, "errno", None) or 0)
    return os.strerror(number) if number else str(failure)


def is_lost(failure: Exception) -> bool:
    """Whether it means that Ceph does not answer."""
    return abs(getattr(failure, "errno", None) or 0) in NO_ANSWER


def connected(conf: str, user: str) -> Any:
    """A connection to the cluster."""
    cluster = rados.Rados(name=f"client.{user}", conffile=conf)
    cluster.connect()
    return cluster


def probe(pool_io: Any, name: str) -> str:
    """Write an object, read it back and remove it; what is wrong, or nothing. One that stays would be written to in a
    full pool, too: only what needs more room is refused there.

    :raises rados.Error: it can't be.
    """
    data = f"{name} {os.urandom(8).hex()}\n".encode().ljust(BLOCK)
    with rados.WriteOpCtx() as operation:
        operation.write_full(data)
        pool_io.operate_write_op(operation, name, flags=FULL_TRY)
    found = pool_io.read(name, BLOCK)
    with rados.WriteOpCtx() as operation:
        operation.remove()
        pool_io.operate_write_op(operation, name, flags=FULL_TRY)
    return "" if found == data else "it gives back other data than was written"


def wrong_image(pool_io: Any, pool: str, image: str) -> str:
    """What is wrong with the image, or nothing.

    :raises rbd.Error: that can't be known.
    """
    try:
        with rbd.Image(pool_io, image, read_only=True) as opened:
            opened.read(0, min(BLOCK, opened.size()))
            if not opened.features() & rbd.RBD_FEATURE_EXCLUSIVE_LOCK:
                return (
                    f"the image {pool}/{image} has no exclusive lock, by which it is known who writes to it: "
                    f"`rbd feature enable {pool}/{image} exclusive-lock`"
                )
    except rbd.ImageNotFound:
        return f"the image {pool}/{image} is missing: put it there by `qemu-img convert -O raw FILE rbd:{pool}/{image}`"
    return ""


def look(conf: str, user: str, pool: str, image: str, name: str) -> dict[str, Any]:
    """See above."""
    found: dict[str, Any] = {"storage": "", "full": "", "image": "", "lost": False}
    what = "Ceph does not answer"
    try:
        pool_io = None
        cluster = connected(conf, user)
        what = f"the pool {pool} can't be written"
        pool_io = cluster.open_ioctx(pool)
        try:
            if wrong := probe(pool_io, name):
                found.update(storage=f"{what}: {wrong}", lost=True)
        except rados.OSError as failure:
            if abs(failure.errno) not in (errno.ENOSPC, errno.EDQUOT):
                raise
            found["full"] = f"the pool {pool} is full; make room"
        what = f"the image {pool}/{image} can't be read"
        if not found["storage"]:
            found["image"] = wrong_image(pool_io, pool, image)
    except (rados.Error, rbd.Error) as failure:
        why = f"{what}: {said(failure)}; see `ceph -s`, and the client's caps in docs/storage.md"
        if pool_io is not None and isinstance(failure, rbd.Error) and not is_lost(failure):
            found["image"] = why
        else:
            found.update(storage=why, lost=is_lost(failure))
    return found


def writers(opened: Any) -> dict[str, list[tuple[str, str]]]:
    """Address -> the locks of a client that may write to the opened image.

    :raises ValueError: somebody has locked it by hand, and must have had a reason.
    """
    found: dict[str, list[tuple[str, str]]] = {one["addr"]: [] for one in opened.watchers_list()}
    for client, cookie, address in (opened.list_lockers() or {}).get("lockers", []):
        if not cookie.startswith(OWN_LOCK):
            remedy = f"`rbd lock rm POOL/{opened.get_name()} '{cookie}' {client}`, if nothing uses it"
            raise ValueError(f"{address} has locked it by hand, as {cookie!r}: {remedy}")
        found.setdefault(address, []).append((client, cookie))
    return found


def clients(conf: str, user: str, pool: str, image: str) -> dict[str, Any]:
    """See above."""
    pool_io = connected(conf, user).open_ioctx(pool)
    with rbd.Image(pool_io, image, read_only=True) as opened:
        return {"clients": sorted(writers(opened))}


def command(cluster: Any, prefix: str, **arguments: Any) -> Any:
    """What the monitors answer; the first value in it where it is JSON.

    :raises ValueError: they refuse.
    """
    words = json.dumps({"prefix": prefix, "format": "json", **arguments})
    code, output, told = cluster.mon_command(words, b"")
    if code:
        raise ValueError(f"`ceph {prefix}` fails: {told or os.strerror(-code)}; the client needs mon 'profile rbd'")
    text = output.decode().strip()
    return json.JSONDecoder().raw_decode(text)[0] if text else None


def block(conf: str, user: str, pool: str, image: str, expire_s: str, *addresses: str) -> dict[str, Any]:
    """See above."""
    cluster = connected(conf, user)
    for address in addresses:
        command(cluster, "osd blocklist", blocklistop="add", addr=address, expire=float(expire_s))
    listed = {one["addr"] for one in command(cluster, "osd blocklist ls")}
    if missing := [one for one in addresses if one not in listed]:
        raise ValueError(f"Ceph does not list {', '.join(missing)} among those that it refuses")
    epoch = command(cluster, "osd stat")["epoch"]
    cluster.wait_for_latest_osdmap()
    with rbd.Image(cluster.open_ioctx(pool), image, read_only=True) as opened:
        left = writers(opened)
        if others := [one for one in left if one not in addresses]:
            raise ValueError(f"{', '.join(others)} has opened it just now: does somebody else use it?")
        for client, cookie in (lock for locks in left.values() for lock in locks):
            opened.break_lock(client, cookie)
    return {"epoch": epoch}


VERBS: dict[str, Callable[..., dict[str, Any]]] = {"look": look, "clients": clients, "block": block}


def main(verb: str, *words: str) -> dict[str, Any]:
    """What a command line prints."""
    try:
        return VERBS[verb](*words)
    except rbd.ImageNotFound:
        return {"error": "it is missing"}
    except (rados.Error, rbd.Error, ValueError, KeyError) as failure:
        return {"error": said(failure)}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])), flush=True)
    os._exit(0)  # to close a connection that hangs would hang
