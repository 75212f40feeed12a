"""A small Airbyte source with a Dockerfile: the rows of a CSV file that is shipped with it."""

import argparse
import csv
import json
import pathlib
import sys
import time

DATA = pathlib.Path(__file__).parent / "data" / "regions.csv"

SPECIFICATION = {
    "documentationUrl": "https://github.com/airbyte-publish/airbyte-publish/tree/main/testdata/connectors/source-python-docker",
    "connectionSpecification": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Regions Source Spec",
        "type": "object",
        "required": ["api_key"],
        "properties": {
            "api_key": {
                "type": "string",
                "title": "API key",
                "order": 0,
                "airbyte_secret": True,
                "description": "Any text: it stands for the secret that most sources need.",
            },
        },
    },
}


def emit(kind, key, value):
    print(json.dumps({"type": kind, key: value}, ensure_ascii=False), flush=True)


def rows():
    with DATA.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {**row, "population": int(row["population"])}


def stream():
    properties = {"code": {"type": "string"}, "name": {"type": "string"}, "population": {"type": "integer"}}
    return {
        "name": "regions",
        "json_schema": {"type": "object", "properties": properties},
        "supported_sync_modes": ["full_refresh"],
        "source_defined_primary_key": [["code"]],
    }


def check(config):
    if config.get("api_key"):
        return {"status": "SUCCEEDED"}
    return {"status": "FAILED", "message": "api_key is empty"}


def main():
    parser = argparse.ArgumentParser(prog="source-regions")
    parser.add_argument("command", choices=["spec", "check", "discover", "read"])
    parser.add_argument("--config", type=pathlib.Path)
    parser.add_argument("--catalog", type=pathlib.Path)
    parser.add_argument("--state", type=pathlib.Path)
    arguments = parser.parse_args()
    list(rows())  # without its data the connector is no good for anything, spec included
    if arguments.command == "spec":
        emit("SPEC", "spec", SPECIFICATION)
        return 0
    if arguments.config is None:
        parser.error(f"{arguments.command} needs --config")
    config = json.loads(arguments.config.read_text(encoding="utf-8"))
    if arguments.command == "check":
        emit("CONNECTION_STATUS", "connectionStatus", check(config))
    elif arguments.command == "discover":
        emit("CATALOG", "catalog", {"streams": [stream()]})
    else:
        for row in rows():
            record = {"stream": "regions", "data": row, "emitted_at": int(time.time() * 1000)}
            emit("RECORD", "record", record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
