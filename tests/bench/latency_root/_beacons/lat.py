"""Bench only: fire an event when the trigger file holds a new run; the tag is `<path>/<run>`."""

import time


def validate(config):
    return True, "ok"


def beacon(config):
    options = {}
    for part in config:
        options.update(part)
    try:
        with open(options["trigger"], encoding="utf-8") as file:
            path, run = file.read().split()
    except (OSError, ValueError):
        return []
    if __context__.get("lat.last") == run:
        return []
    __context__["lat.last"] = run
    now = time.monotonic()
    with open(options["marks"], "a", encoding="utf-8") as out:
        out.write(f"{run} beacon {now}\n")
    return [{"tag": f"{path}/{run}", "run": run, "marks": options["marks"]}]
