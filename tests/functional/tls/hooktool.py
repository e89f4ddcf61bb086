"""One stand-in for the hook tools that the easyrsa charm uses, by the name it is called under.

It keeps the databags in the JSON file `$HOOKTOOL_STATE` and writes only what is set, as Juju does:
an empty value deletes its key.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys


def main() -> None:
    tool, arguments = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
    path = pathlib.Path(os.environ["HOOKTOOL_STATE"])
    state = json.loads(path.read_text())
    if tool == "config-get":
        answer = state["config"]
    elif tool == "is-leader":
        answer = state["leader"]
    elif tool == "relation-ids":
        answer = sorted(state["relations"])
    elif tool == "relation-list":
        answer = sorted(state["relations"][arguments[2]])
    elif tool == "relation-get":
        answer = state["relations"][arguments[2]][arguments[4]]
    elif tool == "relation-set":
        bag = state["ours"].setdefault(arguments[1], {})
        for key, value in json.load(sys.stdin).items():
            if not isinstance(value, str):
                sys.exit(f"ERROR {key} is not a string")
            bag.pop(key, None)
            if value:
                bag[key] = value
        path.write_text(json.dumps(state))
        return
    elif tool == "status-set":
        state["status"] = [arguments[1], arguments[3]]
        path.write_text(json.dumps(state))
        return
    else:
        state.setdefault("log", []).append([tool, *arguments])
        path.write_text(json.dumps(state))
        return
    json.dump(answer, sys.stdout)


main()
