"""`salt-call --local` with this repository's states and a pillar of one's own, in a scratch folder: no daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import salt.client
import salt.config

from tests.support.example import ROOT

NODE = "node1"


class LocalSalt:
    """A minion without a master.

    :param folder: where everything of it lies.
    :param roots: further file roots, looked into first.
    """

    def __init__(self, folder: Path, pillar: Mapping[str, Any], roots: tuple[Path, ...] = ()) -> None:
        self.folder, self._caller = folder, None
        self.etc, self.pillar = folder / "etc", folder / "pillar"
        for one in (self.etc, self.pillar):
            one.mkdir(parents=True)
        (self.pillar / "top.sls").write_text("base: {'*': [all]}")
        self.write_pillar(pillar)
        opts = {"id": NODE, "root_dir": str(folder), "cachedir": str(folder / "cache"), "pki_dir": str(folder / "pki"),
                "log_file": str(folder / "log"), "conf_file": str(self.etc / "minion"), "file_client": "local",
                "file_roots": {"base": [*map(str, roots), str(ROOT / "salt")]},
                "pillar_roots": {"base": [str(self.pillar)]}, "enable_fqdns_grains": False,
                "enable_gpu_grains": False, "fileserver_list_cache_time": 0,
                "mnha_cluster_file": str(folder / "cluster.json")}  # fmt: skip
        (self.etc / "minion").write_text(json.dumps(opts))

    def write_pillar(self, pillar: Mapping[str, Any]) -> None:
        (self.pillar / "all.sls").write_text("#!json\n" + json.dumps(pillar))

    def here(self, function: str, *words: Any, **named: Any) -> Any:
        """What it returns, called in this process: many times faster, and its modules work with this one's library."""
        if self._caller is None:
            self._caller = salt.client.Caller(mopts=salt.config.minion_config(str(self.etc / "minion")))
        found = self._caller.cmd(function, *words, **named)
        if function == "saltutil.sync_all":
            self._caller = None  # its loader has looked before, and would let one new module not find another
        return found

    def call(
        self, function: str, *words: str, timeout_s: float = 120, env: Mapping[str, str] | None = None
    ) -> tuple[int, Any, str]:
        """Exit code, what it returned, and everything it printed if that is no JSON.

        :param env: of its environment, what is to be other than here.
        """
        program = str(Path(sys.executable).with_name("salt-call"))
        line = [program, "--local", "-c", str(self.etc), "--out=json", "--retcode-passthrough", function, *words]
        given = {**os.environ, **(env or {})}
        done = subprocess.run(line, capture_output=True, text=True, timeout=timeout_s, env=given, check=False)
        try:
            return done.returncode, json.loads(done.stdout)["local"], done.stderr
        except ValueError:
            return done.returncode, None, done.stdout + done.stderr
