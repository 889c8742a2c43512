"""topics/: the shape of each file, what must agree between files, and the example payloads."""

import json
import re

from jsonschema import Draft202012Validator

from .files import SCHEMAS, TOPICS, merged, read_json, read_yaml
from .report import Report

# Payloads that each schema must refuse, so that a schema which allows everything is noticed.
REFUSED_PAYLOADS = {
    "reading": [{}, {"value": "ten"}, {"value": None}, 10.0, None],
    "correction": [{}, {"score": "3"}, {"value": 3.0}, []],
    "large-change": [{}, {"magnitude": 2.0}, {"magnitude": -1, "score": 0}, {"magnitude": 1, "score": 1, "id": 7}],
    "dead-letter": [],
}


def check(report: Report) -> None:
    topics = {path.stem: read_yaml(path) for path in sorted(TOPICS.glob("*.yaml"))}
    schema = read_json(SCHEMAS / "kafka-topic.json")
    report.check("topics: only topics in the first level", _strangers())
    for name, topic in topics.items():
        report.check(f"topics: {name}.yaml has the shape of a KafkaTopic", schema_problems(schema, topic))
        own = topic["metadata"]["name"]
        report.check(f"topics: {name}.yaml is named after its topic", [] if own == name else [f"metadata.name is {own}"])
    report.check("topics: no two names collide in Kafka's metrics", _collisions(topics))

    overlays = {path.stem: read_yaml(path) for path in sorted((TOPICS / "env").glob("*.yaml"))}
    overlay_schema = read_json(SCHEMAS / "topic-overlay.json")
    for env, overlay in overlays.items():
        unknown = [f"topics.{name}: no such topic" for name in overlay.get("topics", {}) if name not in topics]
        report.check(f"topics: env/{env}.yaml is an overlay", schema_problems(overlay_schema, overlay) + unknown)
    for env in [None, *overlays]:
        where = f"with env/{env}.yaml" if env else "as they stand"
        laid = with_overlay(topics, overlays.get(env, {}))
        report.check(f"topics: co-partition groups agree, {where}", _group_problems(laid))
        report.check(f"topics: every input has a dead-letter topic that can hold it, {where}", _dlt_problems(laid))
        report.check(f"topics: replicas suffice for min.insync.replicas, {where}", _replica_problems(laid))

    _check_payloads(report, topics)


def with_overlay(topics: dict[str, dict], overlay: dict) -> dict[str, dict]:
    """The overlay's `spec` laid over every topic, then `topics.<name>` over that one."""
    laid = {}
    for name, topic in topics.items():
        spec = merged(merged(topic["spec"], overlay.get("spec", {})), overlay.get("topics", {}).get(topic["spec"].get("topicName", name), {}))
        laid[name] = {**topic, "spec": spec}
    return laid


def schema_problems(schema: dict, value) -> list[str]:
    errors = Draft202012Validator(schema).iter_errors(value)
    return [f"{'.'.join(map(str, error.absolute_path)) or 'top level'}: {error.message}" for error in errors]


def _strangers() -> list[str]:
    """The chart renders every topics/*.yaml as a topic and `kubectl apply -f topics/` sends every file of the level."""
    return [f"{path.name}: move it into a subfolder" for path in TOPICS.iterdir() if path.is_file() and path.suffix != ".yaml"]


def _collisions(topics: dict) -> list[str]:
    names = [topic["spec"].get("topicName", name) for name, topic in topics.items()]
    folded = [name.replace(".", "_") for name in names]
    return [f"{name}: differs from another only by . and _" for name, fold in zip(names, folded) if folded.count(fold) > 1]


def annotation(topic: dict, name: str) -> str | None:
    return topic["metadata"]["annotations"].get(f"tidegate.io/{name}")


def _group_problems(topics: dict) -> list[str]:
    groups: dict[str, list[dict]] = {}
    for topic in topics.values():
        if annotation(topic, "copartition"):
            groups.setdefault(annotation(topic, "copartition"), []).append(topic)
    problems = [] if groups else ["no group at all"]
    for group, members in groups.items():
        if len({member["spec"]["partitions"] for member in members}) > 1:
            problems.append(f"{group}: partition counts differ")
        if len({annotation(member, "key") for member in members}) > 1:
            problems.append(f"{group}: keys differ")
        leads = [member["metadata"]["name"] for member in members if annotation(member, "lead") == "true"]
        if len(leads) != 1:
            problems.append(f"{group}: expected one lead topic, found {leads}")
    return problems


def _dlt_problems(topics: dict) -> list[str]:
    problems = []
    for name, topic in topics.items():
        if annotation(topic, "role") == "dlt":
            if not name.endswith("-dlt") or name.removesuffix("-dlt") not in topics:
                problems.append(f"{name}: not named after a topic")
        elif annotation(topic, "role") == "input":
            letters = topics.get(f"{name}-dlt")
            if letters is None or annotation(letters, "role") != "dlt":
                problems.append(f"{name}: no topic {name}-dlt with role dlt")
                continue
            source, target = topic["spec"], letters["spec"]
            if target["partitions"] < source["partitions"]:
                problems.append(f"{name}-dlt: fewer partitions than {name}")
            if target["config"]["max.message.bytes"] <= source["config"]["max.message.bytes"]:
                problems.append(f"{name}-dlt: max.message.bytes leaves no room for the headers")
    return problems


def _replica_problems(topics: dict) -> list[str]:
    return [
        f"{name}: {spec['replicas']} replicas, min.insync.replicas {spec['config']['min.insync.replicas']}"
        for name, spec in ((name, topic["spec"]) for name, topic in topics.items())
        if spec["replicas"] < spec["config"]["min.insync.replicas"]
    ]


def _check_payloads(report: Report, topics: dict) -> None:
    schemas = {path.stem: read_json(path) for path in sorted((TOPICS / "schemas").glob("*.json"))}
    named = {annotation(topic, "schema").removeprefix("schemas/").removesuffix(".json") for topic in topics.values()}
    report.check("topics: schemas/ holds exactly what the topics name", [
        *(f"schemas/{name}.json: named by a topic, but missing" for name in sorted(named - set(schemas))),
        *(f"schemas/{name}.json: named by no topic" for name in sorted(set(schemas) - named)),
    ])
    for name, schema in schemas.items():
        allowed = [payload for payload in REFUSED_PAYLOADS.get(name, []) if not schema_problems(schema, payload)]
        missing = [] if name in REFUSED_PAYLOADS else ["no refused payloads in checks/topics.py"]
        report.check(f"topics: schemas/{name}.json refuses wrong payloads", [*map("allows {}".format, allowed), *missing])

    examples = {path.stem for path in (TOPICS / "examples").glob("*.jsonl")}
    report.check("topics: examples/ has one file a topic", sorted(
        f"{name}.jsonl: {'no such topic' if name in examples else 'missing'}" for name in examples ^ set(topics)
    ))
    for name in sorted(examples & set(topics)):
        stem = annotation(topics[name], "schema").removeprefix("schemas/").removesuffix(".json")
        report.check(f"topics: examples/{name}.jsonl is valid", _example_problems(name, schemas.get(stem, False), topics[name]))


def _example_problems(name: str, schema, topic: dict) -> list[str]:
    problems = []
    lines = (TOPICS / "examples" / f"{name}.jsonl").read_text().splitlines()
    if not lines:
        return ["empty"]
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            problems.append(f"line {number}: {error}")
            continue
        if not isinstance(record, dict) or set(record) != {"key", "value"} or not isinstance(record["key"], str):
            problems.append(f"line {number}: expected key (text) and value")
            continue
        if "bigint" in annotation(topic, "key"):
            plain = re.fullmatch(r"0|-?[1-9]\d{0,18}", record["key"])
            if not plain or not -(2**63) <= int(record["key"]) < 2**63:
                problems.append(f"line {number}: key {record['key']!r} is no bigint as text")
        problems += [f"line {number}: {problem}" for problem in schema_problems(schema, record["value"])]
    return problems
