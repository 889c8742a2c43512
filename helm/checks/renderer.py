"""Helm itself: the binary if there is one that reads our schema, otherwise the SDK in a wheel."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

RELEASE = "demo"
NAMESPACE = "streams"

# The first release of Helm 3 that understands schemas of draft 2020-12.
OLDEST_HELM = (3, 18)


class Refused(Exception):
    """Helm did not render: the text is what a user would read."""


@dataclass
class Release:
    """What one `helm install` would create, and what it would print."""

    objects: list[dict]
    notes: str

    def named(self, kind: str, name: str) -> dict | None:
        return next((o for o in self.objects if (o["kind"], o["metadata"]["name"]) == (kind, name)), None)

    def of_kind(self, kind: str) -> list[dict]:
        return [o for o in self.objects if o["kind"] == kind]


def choose_renderer(sdk_only: bool):
    binary = None if sdk_only else shutil.which("helm")
    if binary:
        text = subprocess.run([binary, "version", "--template", "{{.Version}}"], capture_output=True, text=True).stdout
        number = re.match(r"v(\d+)\.(\d+)", text)
        if number and tuple(map(int, number.groups())) >= OLDEST_HELM:
            return Binary(binary, text.strip())
    return Sdk()


class Binary:
    def __init__(self, path: str, version: str):
        self.path = path
        self.version = f"helm {version}"

    def render(self, chart: Path, values: dict) -> Release:
        # `template` does not print the notes, and `install` mixes them with the manifests.
        manifests = self._run("template", RELEASE, chart, values=values)
        installed = self._run("install", RELEASE, chart, "--dry-run=client", values=values)
        return Release(_objects(manifests), installed.partition("\nNOTES:\n")[2])

    def lint(self, chart: Path, values: dict) -> list[str]:
        try:
            text = self._run("lint", chart, "--strict", values=values)
        except Refused as refused:
            return str(refused).splitlines()
        return [line for line in text.splitlines() if re.match(r"\[(INFO|WARNING|ERROR)\]", line)]

    def _run(self, command: str, *arguments, values: dict) -> str:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(values, file)
            file.flush()
            line = [self.path, command, *map(str, arguments), "--namespace", NAMESPACE, "--values", file.name]
            # Whatever cluster this machine knows is not asked.
            environment = {**os.environ, "KUBECONFIG": os.devnull}
            done = subprocess.run(line, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise Refused(done.stderr + done.stdout)
        return done.stdout


class Sdk:
    def __init__(self):
        import helm_python

        self.helm = helm_python
        self.version = f"helm-python-sdk {helm_python.helm_sdk_version()}"

    def render(self, chart: Path, values: dict) -> Release:
        try:
            with _without_remarks(), self.helm.Chart.load(chart) as loaded:
                loaded.validate_schema(values)
                files = loaded.render(values, name=RELEASE, namespace=NAMESPACE, is_install=True)
        except self.helm.HelmError as error:
            raise Refused(str(error)) from error
        notes = next(text for path, text in files.items() if path.endswith("/NOTES.txt"))
        manifests = "\n---\n".join(text for path, text in sorted(files.items()) if path.endswith(".yaml"))
        return Release(_objects(manifests), notes)

    def lint(self, chart: Path, values: dict) -> list[str]:
        with _without_remarks():
            found = self.helm.lint(chart, values, strict=True)
        return [f"{m['path']}: {m['error']}" for m in found["messages"]] + found["errors"]


@contextlib.contextmanager
def _without_remarks():
    """Go writes to the process's own standard error: drop its line about the link `topics`, pass on everything else."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile("w+") as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            sys.stderr.writelines(line for line in caught if "found symbolic link in path" not in line)


class _UniqueKeys(yaml.SafeLoader):
    """Kubernetes refuses a key that is written twice; PyYAML would take the last one."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"written twice: {', '.join(sorted(twice))} {node.start_mark}")
        return super().construct_mapping(node, deep)


def _objects(manifests: str) -> list[dict]:
    try:
        return [document for document in yaml.load_all(manifests, _UniqueKeys) if document]
    except yaml.YAMLError as error:
        raise Refused(f"rendered text is not YAML: {error}") from error
