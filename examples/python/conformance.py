"""Lets `freshet conformance client` judge freshet.py: commands come on standard input, and
what the queries show goes to standard output (docs/conformance.md)."""

import json, sys, threading
import freshet

out = threading.Lock()


def show(query, stale):
    with out:
        print(json.dumps({"query": query.name, "data": query.data, "error": query.error, "stale": stale}), flush=True)


client = None
for line in sys.stdin:
    command = json.loads(line)
    if command["do"] == "start":
        client = freshet.Client(command["url"], show)
        client.follow([
            freshet.Query(q["name"], q["procedure"], q["request"], freshet.topics_of(q["reads"], q["request"]))
            for q in command["queries"]
        ])
    elif command["do"] == "write":
        client.write(command["procedure"], command["request"], command.get("touches", ()))
