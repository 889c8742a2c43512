"""Where things are, and how they are read and merged."""

import copy
import json
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
HELM = REPOSITORY / "helm"
CHART = HELM / "tidegate"
TOPICS = REPOSITORY / "topics"
SCHEMAS = HELM / "schemas"


def read_yaml(path: Path):
    return yaml.safe_load(path.read_text())


def read_json(path: Path):
    return json.loads(path.read_text())


def ci_files() -> list[Path]:
    return sorted((CHART / "ci").glob("*.yaml"))


def merged(base: dict, over: dict) -> dict:
    """`over` laid over a copy of `base`, maps merged and everything else replaced, as Helm and the overlays do."""
    result = copy.deepcopy(base)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result
