"""What the chart renders from each ci/ file: valid, restricted, consistent in itself, and faithful to the values."""

import json
import re

import kubernetes_validate
import yaml

from . import restricted
from .files import CHART, SCHEMAS, TOPICS, ci_files, merged, read_json, read_yaml
from .renderer import Refused, Release
from .report import Report
from .topics import schema_problems, with_overlay

# Values under these groups appear in tidegate.yaml under the same names in snake case, except those that are mapped by hand.
MIRRORED = ("pipeline", "kafka", "database", "engine", "state", "outbox", "instance", "log")
MAPPED_BY_HAND = {
    ("kafka", "security"), ("kafka", "sasl"), ("kafka", "tls"), ("kafka", "properties"),
    ("database", "url"), ("database", "existingSecret"), ("database", "existingSecretKey"),
    ("state", "enabled"), ("state", "size"), ("state", "storageClass"), ("state", "ephemeral"),
}

# Switch off a part: what must be gone then.
SWITCHES = [
    ("service: {enabled: false}", [("Service", "demo-tidegate")]),
    ("pdb: {enabled: false}", [("PodDisruptionBudget", "demo-tidegate")]),
    ("serviceAccount: {create: false}", [("ServiceAccount", "demo-tidegate")]),
    ("migrations: {mode: none}", [("Job", "demo-tidegate-migrate")]),
    ("topics: {mode: none}", [("Job", "demo-tidegate-topics")]),
    ("{migrations: {mode: none}, topics: {mode: none}}", [("ConfigMap", "demo-tidegate-hooks")]),
    ("state: {enabled: true, size: 1Gi}", [("Deployment", "demo-tidegate")]),
    ("{state: {enabled: true, size: 1Gi}, database: {existingSecret: ''}}", [("Job", "demo-tidegate-migrate")]),
]

# Warnings of the notes, each with values that call for it.
WARNINGS = [
    ("replicaCount: 1", "replicaCount is 1: while that pod moves, nothing is processed."),
    ("{replicaCount: 12, engine: {workers: 2}}", "replicaCount times engine.workers is 24 for 12 partitions: some workers stand idle."),
    ("pdb: {enabled: false}", "pdb.enabled is false: a node drain may take all pods at once."),
    ("migrations: {mode: none}", "migrations.mode is none: run `tidegate migrate` yourself before each upgrade, or pods stay unready."),
    ("topics: {mode: none}", "topics.mode is none: create the topics yourself before pods start."),
    ("log: {level: info}", "kafka.security.protocol is PLAINTEXT: records cross the network unencrypted."),
    ("state: {enabled: true, ephemeral: true}", "state.ephemeral is true: every restart of a pod restores all of its state from the changelogs."),
]


def check(report: Report, renderer) -> None:
    defaults = read_yaml(CHART / "values.yaml")
    for path in ci_files():
        try:
            release = renderer.render(CHART, read_yaml(path))
        except Refused as refused:
            report.check(f"{path.name}: renders", str(refused).splitlines())
            continue
        values = merged(defaults, read_yaml(path))
        for version in _kubernetes_versions():
            report.check(f"{path.name}: valid for Kubernetes {version}", _invalid(release, version))
        report.check(f"{path.name}: every pod meets the Restricted level", _per_pod(release, restricted.problems))
        report.check(f"{path.name}: every pod is hardened beyond it", _per_pod(release, _softness))
        report.check(f"{path.name}: names are unique and labels complete", _name_problems(release))
        report.check(f"{path.name}: every reference resolves in time", _reference_problems(release, values))
        report.check(f"{path.name}: hooks run in order", _hook_problems(release, values))
        report.check(f"{path.name}: selectors find the pods", _selector_problems(release))
        report.check(f"{path.name}: the workload follows the values", _workload_problems(release, values))
        report.check(f"{path.name}: keyed state has a place, or there is none", _state_problems(release, values))
        report.check(f"{path.name}: tidegate.yaml follows the values", _settings_problems(release, values))
        report.check(f"{path.name}: credentials come by reference", _credential_problems(release, values))
        report.check(f"{path.name}: the topics job gets the topics with the overlay", _topic_problems(release, values))
        report.check(f"{path.name}: the notes say what to look at", _note_problems(release, values))
    _check_variants(report, renderer)


def _workload(release: Release) -> dict:
    """What runs the pipeline: one Deployment or one StatefulSet."""
    found = release.of_kind("Deployment") + release.of_kind("StatefulSet")
    if len(found) != 1:
        raise AssertionError(f"expected one workload, found {[item['kind'] for item in found]}")
    return found[0]


def _has_database(values: dict) -> bool:
    return bool(values["database"]["url"] or values["database"]["existingSecret"])


def _check_variants(report: Report, renderer) -> None:
    base = read_yaml(CHART / "ci" / "minimal.yaml")
    plain = renderer.render(CHART, base)
    for over, gone in SWITCHES:
        release = renderer.render(CHART, merged(base, yaml.safe_load(over)))
        problems = [f"{kind} {name} is missing by default" for kind, name in gone if not plain.named(kind, name)]
        problems += [f"{kind} {name} is still there" for kind, name in gone if release.named(kind, name)]
        problems += _reference_problems(release, merged(read_yaml(CHART / "values.yaml"), merged(base, yaml.safe_load(over))))
        report.check(f"switch: {over}", problems)
    quiet = merged(base, {"kafka": {"security": {"protocol": "SSL"}}})
    silent = renderer.render(CHART, quiet).notes
    report.check("notes: no warning without a reason", ["there are warnings"] if "Please note" in silent else [])
    for over, sentence in WARNINGS:
        notes = renderer.render(CHART, merged(base, yaml.safe_load(over))).notes
        report.check(f"notes: warn at {over}", [] if f"  - {sentence}" in notes.splitlines() else [f"missing: {sentence}"])
    for over, moves in [
        ("engine: {batchRows: 999}", True),
        ("database: {existingSecret: another}", True),
        ("database: {existingSecret: '', url: 'postgres://db/a'}", True),
        ("replicaCount: 3", False),
        ("engine: {logAgeMs: 50}", True),
    ]:
        release = renderer.render(CHART, merged(base, yaml.safe_load(over)))
        moved = _checksums(release) != _checksums(plain)
        report.check(f"checksums: {over}", [] if moved == moves else [f"rollout expected: {moves}, found: {moved}"])


def _checksums(release: Release) -> dict:
    annotations = _workload(release)["spec"]["template"]["metadata"]["annotations"]
    return {key: value for key, value in annotations.items() if key.startswith("checksum/")}


def _kubernetes_versions() -> list[str]:
    """The oldest that the chart allows, and the newest whose schemas are here."""
    oldest = re.match(r">=(\d+\.\d+)", read_yaml(CHART / "Chart.yaml")["kubeVersion"]).group(1)
    newest = ".".join(kubernetes_validate.latest_version().split(".")[:2])
    return [oldest, newest]


def _invalid(release: Release, version: str) -> list[str]:
    problems = []
    for item in release.objects:
        try:
            used = kubernetes_validate.validate(item, version, strict=True)
            if used != version:
                problems.append(f"no schemas for {version}, {used} was used")
        except kubernetes_validate.ValidationError as error:
            where = ".".join(map(str, error.absolute_path))
            problems.append(f"{item['kind']} {item['metadata']['name']}: {where}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            problems.append(error.message)
    return problems


def _pods(release: Release) -> list[tuple[str, dict]]:
    """Name and pod template of everything that starts pods."""
    return [(o["metadata"]["name"], o["spec"]["template"]) for o in release.objects if "template" in (o.get("spec") or {})]


def _per_pod(release: Release, find) -> list[str]:
    pods = _pods(release)
    found = [f"{name}: {problem}" for name, template in pods for problem in find(template["spec"])]
    return found if pods else ["no pod at all"]


def _softness(pod: dict) -> list[str]:
    found = []
    # `is not False`: the default of both is true.
    found += [f"{key} is not false" for key in ("enableServiceLinks", "automountServiceAccountToken") if pod.get(key) is not False]
    for container in restricted.containers(pod):
        name = container["name"]
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            found.append(f"{name}: the root file system can be written")
        resources = container.get("resources", {})
        if not resources.get("requests", {}).get("memory") or not resources.get("limits", {}).get("memory"):
            found.append(f"{name}: memory is not bounded")
        if container["image"].endswith(":latest") or not re.search(r"[:@][^/]+$", container["image"]):
            found.append(f"{name}: image {container['image']} has no version")
    return found


def _name_problems(release: Release) -> list[str]:
    problems = []
    identities = [(o["kind"], o["metadata"]["name"]) for o in release.objects]
    problems += [f"{kind} {name} twice" for kind, name in {i for i in identities if identities.count(i) > 1}]
    for item in release.objects:
        labels = item["metadata"].get("labels", {})
        wanted = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/version", "helm.sh/chart"}
        problems += [f"{item['kind']} {item['metadata']['name']}: no label {label}" for label in sorted(wanted - set(labels))]
    return problems


def _is_hook(item: dict) -> bool:
    return "helm.sh/hook" in item["metadata"].get("annotations", {})


def _weight(item: dict) -> int:
    return int(item["metadata"]["annotations"]["helm.sh/hook-weight"])


def _references(pod: dict) -> set[tuple[str, str, str | None]]:
    """(kind, name, key) of everything that a pod needs to start; key None: the whole object."""
    found = set()
    for volume in pod.get("volumes", []):
        if "configMap" in volume:
            items = [item["key"] for item in volume["configMap"].get("items", [])]
            found |= {("ConfigMap", volume["configMap"]["name"], key) for key in items or [None]}
        if "secret" in volume:
            found.add(("Secret", volume["secret"]["secretName"], None))
    for container in restricted.containers(pod):
        for variable in container.get("env", []):
            for kind, field in (("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef")):
                reference = variable.get("valueFrom", {}).get(field)
                if reference:
                    found.add((kind, reference["name"], reference["key"]))
        for source in container.get("envFrom", []):
            for kind, field in (("Secret", "secretRef"), ("ConfigMap", "configMapRef")):
                if field in source:
                    found.add((kind, source[field]["name"], None))
    found.add(("ServiceAccount", pod.get("serviceAccountName", "default"), None))
    return found


def _named_by_user(values: dict) -> set[str]:
    """Objects that the user promises to have made before the release."""
    text = json.dumps([values["extraEnv"], values["extraEnvFrom"], values["extraVolumes"]])
    names = set(re.findall(r'"(?:name|secretName)": "([^"]+)"', text))
    names |= {values["kafka"]["sasl"]["existingSecret"], values["kafka"]["tls"]["existingSecret"], values["database"]["existingSecret"]}
    if not values["serviceAccount"]["create"]:
        names.add(values["serviceAccount"]["name"])
    return names | {"default"}


def _reference_problems(release: Release, values: dict) -> list[str]:
    """A pod may use what the user made, what its own release made, and, as a hook, only hooks that come before it."""
    problems = []
    outside = _named_by_user(values)
    for item in release.objects:
        if "template" not in (item.get("spec") or {}):
            continue
        pod = item["spec"]["template"]["spec"]
        for kind, name, key in sorted(_references(pod), key=str):
            if name in outside:
                continue
            target = release.named(kind, name)
            where = f"{item['metadata']['name']} needs {kind} {name}"
            if target is None:
                problems.append(f"{where}, which nobody makes")
            elif _is_hook(item) and not (_is_hook(target) and _weight(target) < _weight(item)):
                problems.append(f"{where}, which comes later")
            elif not _is_hook(item) and _is_hook(target):
                problems.append(f"{where}, a hook that is deleted again")
            elif key and key not in {**target.get("data", {}), **target.get("stringData", {})}:
                problems.append(f"{where} with key {key}, which it does not have")
        claims = {claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", [])}
        volumes = {volume["name"] for volume in pod.get("volumes", [])} | claims
        mounts = {mount["name"] for container in restricted.containers(pod) for mount in container.get("volumeMounts", [])}
        problems += [f"{item['metadata']['name']}: volume {name} is mounted or defined, not both" for name in sorted(volumes ^ mounts)]
    return problems


def _hook_problems(release: Release, values: dict) -> list[str]:
    problems = []
    jobs = {job["metadata"]["name"].rpartition("-")[2]: job for job in release.of_kind("Job")}
    expected = {"migrate": ["migrate"], "topics": ["topics", "apply", "--yes"]}
    if not _has_database(values):
        del expected["migrate"]  # there is nothing to migrate
    if set(jobs) != set(expected):
        return [f"jobs are {sorted(jobs)}"]
    if "migrate" in jobs and not _weight(jobs["migrate"]) < _weight(jobs["topics"]):
        problems.append("the migrations do not come before the topics")
    for name, arguments in expected.items():
        found = jobs[name]["spec"]["template"]["spec"]["containers"][0]["args"]
        if found != arguments:
            problems.append(f"{name} runs {found}")
    for item in filter(_is_hook, release.objects):
        annotations = item["metadata"]["annotations"]
        if annotations["helm.sh/hook"] != "pre-install,pre-upgrade":
            problems.append(f"{item['metadata']['name']}: hook is {annotations['helm.sh/hook']}")
        if annotations.get("helm.sh/hook-delete-policy") != "before-hook-creation,hook-succeeded":
            problems.append(f"{item['metadata']['name']}: a second install would meet it again")
    return problems


def _selector_problems(release: Release) -> list[str]:
    problems = []
    workload = _workload(release)
    labels = workload["spec"]["template"]["metadata"]["labels"]
    selectors = [(workload["kind"], workload["spec"]["selector"]["matchLabels"])]
    selectors += [("Service", o["spec"]["selector"]) for o in release.of_kind("Service")]
    selectors += [("PodDisruptionBudget", o["spec"]["selector"]["matchLabels"]) for o in release.of_kind("PodDisruptionBudget")]
    jobs = [template["metadata"]["labels"] for name, template in _pods(release) if name != workload["metadata"]["name"]]
    for kind, selector in selectors:
        if not selector.items() <= labels.items():
            problems.append(f"{kind} does not select the pods of the {workload['kind']}")
        if any(selector.items() <= job.items() for job in jobs):
            problems.append(f"{kind} selects the pods of a job")
    container = workload["spec"]["template"]["spec"]["containers"][0]
    ports = {port["name"] for port in container["ports"]}
    targets = [port["targetPort"] for service in release.of_kind("Service") for port in service["spec"]["ports"]]
    targets += [container[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")]
    return problems + [f"port {target} is not among {sorted(ports)}" for target in targets if target not in ports]


def _expect(problems: list[str], what: str, found, wanted) -> None:
    if found != wanted:
        problems.append(f"{what} is {found}, expected {wanted}")


def _workload_problems(release: Release, values: dict) -> list[str]:
    problems: list[str] = []
    workload = _workload(release)
    spec, stateful = workload["spec"], values["state"]["enabled"]
    _expect(problems, "kind", workload["kind"], "StatefulSet" if stateful else "Deployment")
    pod = spec["template"]["spec"]
    container = pod["containers"][0]
    _expect(problems, "replicas", spec["replicas"], values["replicaCount"])
    if stateful:
        _expect(problems, "strategy", spec["updateStrategy"], {"type": "RollingUpdate"})
        _expect(problems, "pod management", spec["podManagementPolicy"], "Parallel")
        headless = release.named("Service", spec["serviceName"])
        _expect(problems, "service of the pods' names", headless and headless["spec"]["clusterIP"], "None")
    else:
        _expect(problems, "strategy", spec["strategy"], {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}})
    grace = values["terminationGracePeriodSeconds"] or (300 if stateful else 60)
    _expect(problems, "grace period", pod["terminationGracePeriodSeconds"], grace)
    _expect(problems, "arguments", container["args"], ["run"])
    _expect(problems, "port", container["ports"], [{"name": "http", "containerPort": values["http"]["port"], "protocol": "TCP"}])
    for name, path in (("startup", "/startupz"), ("liveness", "/livez"), ("readiness", "/readyz")):
        wanted = {"httpGet": {"path": path, "port": "http"}, **values["probes"][name]}
        _expect(problems, f"{name} probe", container[f"{name}Probe"], wanted)
    image = values["image"]
    tag = image["tag"] or read_yaml(CHART / "Chart.yaml")["appVersion"]
    _expect(problems, "image", container["image"], f"{image['repository']}@{image['digest']}" if image["digest"] else f"{image['repository']}:{tag}")
    for budget in release.of_kind("PodDisruptionBudget"):
        _expect(problems, "maxUnavailable", budget["spec"]["maxUnavailable"], values["pdb"]["maxUnavailable"])
    for field in ("nodeSelector", "tolerations", "affinity", "priorityClassName", "topologySpreadConstraints"):
        _expect(problems, field, pod.get(field) or None, values[field] or None)
    return problems


def _state_problems(release: Release, values: dict) -> list[str]:
    """A volume that outlives the pod where it is asked for, else a folder that outlives the container, at the folder of the settings."""
    problems: list[str] = []
    state, workload = values["state"], _workload(release)
    pod = workload["spec"]["template"]["spec"]
    mounts = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "state"]
    _expect(problems, "mounts", mounts, [state["dir"]])
    wanted = None
    if state["enabled"] and not state["ephemeral"]:
        wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": state["size"]}}}
        if state["storageClass"]:
            wanted["storageClassName"] = state["storageClass"]
    claims = {claim["metadata"]["name"]: claim["spec"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
    _expect(problems, "claims", claims, {"state": wanted} if wanted else {})
    folders = [volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "state"]
    folder = ({"sizeLimit": state["size"]} if state["size"] else {}) if state["enabled"] else {"sizeLimit": "16Mi"}
    _expect(problems, "folders that go with the pod", folders, [] if state["enabled"] and not state["ephemeral"] else [folder])
    for name, template in _pods(release):
        slots = [variable.get("valueFrom") for variable in template["spec"]["containers"][0]["env"]
                 if variable["name"] == "TIDEGATE_INSTANCE__SLOT"]
        numbered = name == workload["metadata"]["name"] and not _has_database(values)
        pod_index = {"fieldRef": {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}}
        _expect(problems, f"{name}: slot", slots, [pod_index] if numbered else [])
    return problems


def _settings(release: Release) -> list[dict]:
    maps = [item["data"] for item in release.of_kind("ConfigMap") if "tidegate.yaml" in item["data"]]
    return [yaml.safe_load(data["tidegate.yaml"]) for data in maps]


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda letter: f"_{letter.group().lower()}", name)


def _settings_problems(release: Release, values: dict) -> list[str]:
    problems: list[str] = []
    copies = _settings(release)
    if len(copies) != 2 or copies[0] != copies[1]:
        return ["expected two equal copies, one for the pods and one for the jobs"]
    settings = copies[0]
    problems += schema_problems(read_json(SCHEMAS / "settings.json"), settings)
    for group in MIRRORED:
        for key, value in values[group].items():
            if (group, key) not in MAPPED_BY_HAND:
                _expect(problems, f"{group}.{_snake(key)}", settings[group].get(_snake(key), "missing"), value)
    _expect(problems, "http.address", settings["http"]["address"], f"0.0.0.0:{values['http']['port']}")
    _expect(problems, "kafka.properties", settings["kafka"]["properties"], _expected_properties(values["kafka"]))
    return problems


def _expected_properties(kafka: dict) -> dict[str, str]:
    text = {True: "true", False: "false"}
    wanted = {key: text[value] if isinstance(value, bool) else str(value) for key, value in kafka["properties"].items()}
    wanted["security.protocol"] = kafka["security"]["protocol"]
    if wanted["security.protocol"].startswith("SASL_"):
        wanted["sasl.mechanism"] = kafka["sasl"]["mechanism"]
    if kafka["tls"]["existingSecret"]:
        for key, name in (("caKey", "ssl.ca.location"), ("certKey", "ssl.certificate.location"), ("privateKeyKey", "ssl.key.location")):
            if kafka["tls"][key]:
                wanted[name] = f"/etc/tidegate-kafka-tls/{kafka['tls'][key]}"
    return wanted


def _credential_problems(release: Release, values: dict) -> list[str]:
    problems: list[str] = []
    database, sasl = values["database"], values["kafka"]["sasl"]
    if database["url"]:
        for item in release.objects:
            if item["kind"] != "Secret" and database["url"] in json.dumps(item, ensure_ascii=False):
                problems.append(f"{item['kind']} {item['metadata']['name']} shows the database's URL")
            if item["kind"] == "Secret":
                _expect(problems, f"Secret {item['metadata']['name']}", item["stringData"], {"url": database["url"]})
        if database["url"] in release.notes:
            problems.append("the notes show the database's URL")
    for name, template in _pods(release):
        container = template["spec"]["containers"][0]
        env = {variable["name"]: variable.get("valueFrom", {}).get("secretKeyRef", {}) for variable in container["env"]}
        found = env.get("TIDEGATE_DATABASE__URL", {})
        if not _has_database(values):
            _expect(problems, f"{name}: the database's URL", found, {})
            found = {"key": "url"}
        _expect(problems, f"{name}: key of the database's URL", found.get("key"), database["existingSecretKey"] if database["existingSecret"] else "url")
        if database["existingSecret"]:
            _expect(problems, f"{name}: Secret of the database's URL", found.get("name"), database["existingSecret"])
        for field, key in (("USERNAME", sasl["usernameKey"]), ("PASSWORD", sasl["passwordKey"])):
            wanted = {"name": sasl["existingSecret"], "key": key} if sasl["existingSecret"] else None
            _expect(problems, f"{name}: SASL {field}", env.get(f"TIDEGATE_KAFKA__PROPERTIES__SASL_{field}"), wanted)
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        tls = values["kafka"]["tls"]["existingSecret"]
        _expect(problems, f"{name}: certificates are mounted", "/etc/tidegate-kafka-tls" in mounts, bool(tls))
    return problems


def _topic_problems(release: Release, values: dict) -> list[str]:
    problems: list[str] = []
    topics = {path.stem: read_yaml(path) for path in TOPICS.glob("*.yaml")}
    wanted = with_overlay(topics, read_yaml(TOPICS / "env" / f"{values['topics']['env']}.yaml"))
    job = next(job for job in release.of_kind("Job") if job["metadata"]["name"].endswith("-topics"))
    pod = job["spec"]["template"]["spec"]
    volume = next(volume for volume in pod["volumes"] if volume["name"] == "settings")["configMap"]
    data = release.named("ConfigMap", volume["name"])["data"]
    files = {item["path"]: data[item["key"]] for item in volume["items"]}
    mounted = {path.removeprefix("topics/").removesuffix(".yaml"): yaml.safe_load(text)
               for path, text in files.items() if re.fullmatch(r"topics/[^/]+\.yaml", path)}
    _expect(problems, "mounted topics", sorted(mounted), sorted(wanted))
    problems += [f"{name}: {mounted.get(name)} instead of {topic}" for name, topic in wanted.items() if mounted.get(name) != topic]
    for topic in wanted.values():
        schema = f"topics/{topic['metadata']['annotations']['tidegate.io/schema']}"
        if schema not in files or json.loads(files[schema]) != read_json(TOPICS.parent / schema):
            problems.append(f"{schema} is not mounted as it is")
    container = pod["containers"][0]
    _expect(problems, "working directory", container["workingDir"], next(m["mountPath"] for m in container["volumeMounts"] if m["name"] == "settings"))
    return problems


def _note_problems(release: Release, values: dict) -> list[str]:
    state = values["state"]
    wanted = [
        f"{values['replicaCount']} of at most 12 useful replicas",
        f"group         {values['pipeline']['name']}",
        "readings, 12 partitions (lead",
        "corrections, 12 partitions",
        f"port-forward {'statefulset' if state['enabled'] else 'deploy'}/{_workload(release)['metadata']['name']} {values['http']['port']}",
    ]
    if state["enabled"]:
        wanted += [f"Keyed state lies in {state['dir']}", "--build-arg FEATURES=rocksdb"]
    if state["enabled"] and not state["ephemeral"]:
        wanted.append(f"on a volume of {state['size']}")
    return [f"missing: {text}" for text in wanted if text not in release.notes]
