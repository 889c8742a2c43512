"""The files as written: YAML style, JSON schemas, values and their comments, the image recipe, Helm's own linter."""

import re
import subprocess
import sys
from pathlib import Path

from yamllint import linter
from yamllint.config import YamlLintConfig

from .files import CHART, HELM, REPOSITORY, SCHEMAS, TOPICS, ci_files, read_json, read_yaml
from .report import Report
from .topics import schema_problems


def check(report: Report, renderer) -> None:
    _check_yaml(report)
    _check_schemas(report)
    values, schema = read_yaml(CHART / "values.yaml"), read_json(CHART / "values.schema.json")
    report.check("values: defaults satisfy the schema", schema_problems(schema, values))
    report.check("values: every key has a comment", _uncommented_keys())
    report.check("values: every key of the schema has a default", _without_default(schema, schema, values, ""))
    report.check("values: the schema refuses unknown keys at every level of ours", _open_levels(schema, ""))
    report.check("image: helm/Dockerfile agrees with the chart", _dockerfile_problems(values))
    report.check("image: helm/Dockerfile can build with RocksDB", _feature_problems())
    for path in ci_files():
        report.check(f"lint: {path.name}", renderer.lint(CHART, read_yaml(path)))


def _check_yaml(report: Report) -> None:
    config = YamlLintConfig(file=str(HELM / ".yamllint.yaml"))
    paths = [*sorted(TOPICS.rglob("*.yaml")), CHART / "Chart.yaml", CHART / "values.yaml", *ci_files()]
    for path in paths:
        found = linter.run(path.read_text(), config, str(path))
        report.check(f"yamllint: {path.parent.name}/{path.name}", [f"line {p.line}: {p.desc}" for p in found])


def _check_schemas(report: Report) -> None:
    paths = [CHART / "values.schema.json", *sorted(SCHEMAS.glob("*.json")), *sorted((TOPICS / "schemas").glob("*.json"))]
    for path in paths:
        report.check(f"check-jsonschema: {path.parent.name}/{path.name} is a schema", _cli("--check-metaschema", path))
    for path in sorted(TOPICS.glob("*.yaml")):
        report.check(f"check-jsonschema: topics/{path.name}", _cli("--schemafile", SCHEMAS / "kafka-topic.json", path))


def _cli(*arguments: str | Path) -> list[str]:
    done = subprocess.run([sys.executable, "-m", "check_jsonschema", *map(str, arguments)], capture_output=True, text=True)
    return (done.stdout + done.stderr).splitlines() if done.returncode else []


def _uncommented_keys() -> list[str]:
    """A key is explained by the comment above it. Maps on one line belong to the key that holds them."""
    problems, before = [], ""
    for number, line in enumerate((CHART / "values.yaml").read_text().splitlines(), 1):
        if re.match(r"\s*[\w-]+:", line) and not before.lstrip().startswith("#"):
            problems.append(f"line {number}: {line.strip()}")
        before = line
    return problems


def _resolved(schema: dict, node: dict) -> dict:
    reference = node.get("$ref")
    return schema["$defs"][reference.removeprefix("#/$defs/")] if reference else node


def _without_default(schema: dict, node: dict, values: dict, path: str) -> list[str]:
    # Helm sets `global`; a probe's further fields and the halves of `resources` keep Kubernetes' own defaults.
    if path == ".probes" or path.endswith("resources"):
        return []
    problems = []
    for key, child in node.get("properties", {}).items():
        if f"{path}.{key}" == ".global":
            continue
        if key not in values:
            problems.append(f"{path}.{key}: not in values.yaml")
        elif isinstance(values[key], dict):
            problems += _without_default(schema, _resolved(schema, child), values[key], f"{path}.{key}")
    return problems


def _open_levels(schema: dict, path: str) -> list[str]:
    """Every object that lists its keys must refuse others; pass-through maps list none."""
    problems = []
    if "properties" in schema and schema.get("additionalProperties") is not False:
        problems.append(f"{path or 'top level'}: additionalProperties is not false")
    for keyword in ("properties", "$defs"):
        for key, child in schema.get(keyword, {}).items():
            problems += _open_levels(child, f"{path}/{key}")
    return problems + (_open_levels(schema["items"], f"{path}/items") if "items" in schema else [])


def _dockerfile_problems(values: dict) -> list[str]:
    lines = (HELM / "Dockerfile").read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    problems = [f"{base}: name a version" for base in bases if ":" not in base or base.endswith(":latest")]
    pod = values["podSecurityContext"]
    expected = f"USER {pod['runAsUser']}:{pod['runAsGroup']}"
    users = [line for line in lines if line.startswith("USER ")]
    if users[-1:] != [expected]:
        problems.append(f"last USER is {users[-1:]}, the chart runs as {expected}")
    if 'ENTRYPOINT ["/usr/local/bin/tidegate"]' not in lines:
        problems.append("the chart gives only arguments: ENTRYPOINT must be the binary, in exec form, so that it gets SIGTERM")
    return problems


def _feature_problems() -> list[str]:
    """What NOTES.txt tells to build must be what Cargo.toml and the recipe know."""
    recipe = (HELM / "Dockerfile").read_text()
    build, _, image = recipe.partition("\nFROM debian")
    named = re.findall(r"--build-arg (\w+)=(\w+)", recipe + (CHART / "templates" / "NOTES.txt").read_text())
    features = set(re.findall(r"^(\w+) = \[", (REPOSITORY / "Cargo.toml").read_text(), re.MULTILINE))
    problems = [f"--build-arg {name}: no such ARG" for name, _ in named if f"\nARG {name}=" not in build]
    problems += [f"--build-arg FEATURES={value}: no such feature" for name, value in named if name == "FEATURES" and value not in features]
    builds = re.findall(r"cargo build [^\n]*", build)
    problems += [f"without the features: {line}" for line in builds if '--features "$FEATURES"' not in line]
    if ("FEATURES", "rocksdb") not in named:
        problems.append("nothing says how to build with RocksDB")
    if "libclang-dev" not in build or "libstdc++6" not in image:
        problems.append("RocksDB needs libclang-dev to be built and libstdc++6 to run")
    return problems
