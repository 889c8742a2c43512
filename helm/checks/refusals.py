"""Values that must not install, each with the sentence that the user reads.

Sentences of templates/_checks.tpl are compared whole, line by line, and nothing else may be refused beside them. Every
sentence of that file must be provoked here.
"""

import re
import shutil
import tempfile
from pathlib import Path

import yaml

from .files import CHART, TOPICS, merged, read_yaml
from .renderer import Refused
from .report import Report

NO_VOLUME = "state.size is empty: set a size, or state.ephemeral=true to accept a full restore on every restart."

# Values laid over ci/minimal.yaml, and the sentences.
COMBINATIONS = [
    ("replicaCount: 13", ['replicaCount is 13, but lead topic "readings" has 12 partitions: 1 pods would idle. Use 12 or less.']),
    ("topics: {env: test}", ['topics.env is "test", but topics/env/test.yaml does not exist.']),
    ("instance: {slot: 3}", [
        "instance.slot is 3, but replicaCount is 2: all pods would share one transactional id and fence each other. "
        "Set instance.slot to null.",
    ]),
    ("database: {existingSecret: ''}", ["database: set exactly one of url, existingSecret (found: none)."]),
    ("database: {url: 'postgres://db/a'}", ["database: set exactly one of url, existingSecret (found: url, existingSecret)."]),
    ("kafka: {bootstrapServers: ''}", ['kafka.bootstrapServers is empty: set the brokers, for example "kafka-bootstrap:9092".']),
    ("kafka: {security: {protocol: ''}}", ["kafka.security.protocol is empty: write PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."]),
    ("kafka: {security: {protocol: SASL_SSL}}", [
        "kafka.security.protocol=SASL_SSL needs kafka.sasl.existingSecret, a Secret with user and password.",
    ]),
    ("kafka: {sasl: {existingSecret: user}}", [
        "kafka.sasl.existingSecret has no effect under kafka.security.protocol=PLAINTEXT. Use SASL_SSL or SASL_PLAINTEXT, or remove it.",
    ]),
    ("kafka: {tls: {existingSecret: ca}}", [
        "kafka.tls.existingSecret has no effect under kafka.security.protocol=PLAINTEXT. Use SSL or SASL_SSL, or remove it.",
    ]),
    ("kafka: {security: {protocol: SSL}, tls: {existingSecret: ca, certKey: tls.crt}}", [
        "kafka.tls: a client certificate needs both certKey and privateKeyKey (found: tls.crt).",
    ]),
    ("kafka: {security: {protocol: SSL}, tls: {existingSecret: ca, privateKeyKey: tls.key}}", [
        "kafka.tls: a client certificate needs both certKey and privateKeyKey (found: tls.key).",
    ]),
    ("kafka: {security: {protocol: SSL}, tls: {certKey: tls.crt, privateKeyKey: tls.key}}", [
        'kafka.tls.certKey is "tls.crt", but kafka.tls.existingSecret is empty: name the Secret that holds it.',
    ]),
    *((f"kafka: {{properties: {{{name}: x}}}}", [f'kafka.properties: "{name}" is fixed to {value} by Tidegate. Remove it.']) for name, value in [
        ("auto.offset.reset", "error (pipeline.start decides where a new group begins)"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("enable.idempotence", "true"),
        ("group.id", "the pipeline's name"),
        ("isolation.level", "read_committed"),
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("partitioner", "murmur2_random"),
        ("transactional.id", "pipeline, slot and worker"),
    ]),
    *((f"kafka: {{properties: {{{name}: x}}}}", [f'kafka.properties: "{name}" has a key of its own: kafka.{key}.']) for name, key in [
        ("bootstrap.servers", "bootstrapServers"),
        ("group.protocol", "groupProtocol"),
        ("metadata.broker.list", "bootstrapServers"),
        ("sasl.mechanism", "sasl.mechanism"),
        ("sasl.mechanisms", "sasl.mechanism"),
        ("security.protocol", "security.protocol"),
        ("transaction.timeout.ms", "transactionTimeoutMs"),
    ]),
    *((f"kafka: {{properties: {{{name}: x}}}}", [f'kafka.properties: "{name}" would be readable in the ConfigMap. {way}']) for name, way in [
        ("sasl.password", "Use kafka.sasl.existingSecret."),
        ("sasl.username", "Use kafka.sasl.existingSecret."),
        ("sasl.oauthbearer.client.secret", "Reference a Secret from extraEnv."),
        ("sasl.oauthbearer.client.credentials.client.secret", "Reference a Secret from extraEnv."),
        ("sasl.oauthbearer.assertion.private.key.passphrase", "Reference a Secret from extraEnv."),
        ("sasl.oauthbearer.assertion.private.key.pem", "Reference a Secret from extraEnv."),
        ("sasl.jaas.config", "Reference a Secret from extraEnv."),
        ("ssl.key.password", "Reference a Secret from extraEnv."),
        ("ssl.key.pem", "Reference a Secret from extraEnv."),
        ("ssl.keystore.password", "Reference a Secret from extraEnv."),
    ]),
    ("kafka: {properties: {group.instance.id: pod}}", [
        'kafka.properties: "group.instance.id" is Tidegate\'s: a static member never leaves, so a pod that goes holds its '
        "partitions for the session timeout. Remove it.",
    ]),
    *((f"kafka: {{groupProtocol: consumer, properties: {{{name}: x}}}}", [
        f'kafka.properties: under groupProtocol=consumer the broker sets "{name}". Remove it.',
    ]) for name in ("session.timeout.ms", "heartbeat.interval.ms", "group.protocol.type")),
    ("terminationGracePeriodSeconds: 19", ["terminationGracePeriodSeconds (19) must exceed the transaction timeout (10 s) by 10 s or more."]),
    ("{terminationGracePeriodSeconds: 20, kafka: {transactionTimeoutMs: 10500}}", [
        "terminationGracePeriodSeconds (20) must exceed the transaction timeout (10.5 s) by 10 s or more.",
    ]),
    ("state: {enabled: true}", [NO_VOLUME]),
    ("state: {enabled: true, storageClass: fast}", [NO_VOLUME]),
    ("state: {enabled: true, ephemeral: true, storageClass: fast}", [
        'state.storageClass is "fast", but state.ephemeral=true takes no volume of a class. Remove one of them.',
    ]),
    *((f"state: {{{part}}}", [
        "state.size, storageClass and ephemeral have no effect while state.enabled is false. Set it to true, or remove them.",
    ]) for part in ("size: 1Gi", "storageClass: fast", "ephemeral: true")),
    *((f"{{state: {{enabled: true, size: 1Gi, memoryMib: 129}}, resources: {{limits: {{memory: {written}}}}}}}", [
        "state.memoryMib and engine.workers times state.cacheMib come to 257 MiB, more than half of resources.limits.memory "
        f"({limit} MiB): the container would be killed. Raise the limit to 514Mi.",
    ]) for written, limit in (("512Mi", 512), ("0.5Gi", 512), ("500M", 476), ("536870912", 512), ("'536870912'", 512))),
    ("{state: {enabled: true, size: 1Gi}, engine: {workers: 3}}", [
        "state.memoryMib and engine.workers times state.cacheMib come to 320 MiB, more than half of resources.limits.memory "
        "(512 MiB): the container would be killed. Raise the limit to 640Mi.",
    ]),
    ("{state: {enabled: true, size: 1Gi}, database: {url: 'postgres://db/a'}}", [
        "database: set exactly one of url, existingSecret (found: url, existingSecret).",
    ]),
    # All at once, not the first.
    ("{replicaCount: 40, database: {existingSecret: ''}, kafka: {bootstrapServers: ''}}", [
        'replicaCount is 40, but lead topic "readings" has 12 partitions: 28 pods would idle. Use 12 or less.',
        "database: set exactly one of url, existingSecret (found: none).",
        'kafka.bootstrapServers is empty: set the brokers, for example "kafka-bootstrap:9092".',
    ]),
]

# Just on the right side of a limit.
ACCEPTED = [
    "replicaCount: 12",
    "{replicaCount: 1, instance: {slot: 3}}",
    "topics: {env: ''}",
    "terminationGracePeriodSeconds: 20",
    "kafka: {properties: {session.timeout.ms: 30000}}",
    "kafka: {properties: {sasl.oauthbearer.token.endpoint.url: 'https://idp/token', ssl.key.location: /tls/key.pem}}",
    "kafka: {security: {protocol: SSL}}",
    "kafka: {security: {protocol: SSL}, tls: {existingSecret: ca}}",
    "database: {existingSecret: '', url: 'postgresql://db/a'}",
    "global: {team: accounts}",
    "state: {enabled: true, size: 1Gi}",
    "state: {enabled: true, ephemeral: true}",
    "{state: {enabled: true, size: 1Gi, memoryMib: 129}, resources: {limits: {memory: 514Mi}}}",
    "{state: {enabled: true, size: 1Gi}, resources: {limits: {memory: 1e9}}}",
    "{state: {enabled: true, size: 1Gi}, database: {existingSecret: ''}}",
]

# Values laid over ci/minimal.yaml, and a part of Helm's message from values.schema.json.
SCHEMA = [
    ("replicaCount: 0", "at '/replicaCount': minimum: got 0, want 1"),
    ("replicaCount: two", "at '/replicaCount': got string, want integer"),
    ("replicas: 2", "additional properties 'replicas' not allowed"),
    ("databse: {url: 'postgres://db/a'}", "additional properties 'databse' not allowed"),
    *((f"{{{path}}}", f"at '{where}': additional properties 'oops' not allowed") for path, where in [
        ("image: {oops: 1}", "/image"),
        ("image: {pullSecrets: [{name: a, oops: 1}]}", "/image/pullSecrets/0"),
        ("pipeline: {oops: 1}", "/pipeline"),
        ("kafka: {oops: 1}", "/kafka"),
        ("kafka: {security: {oops: 1}}", "/kafka/security"),
        ("kafka: {sasl: {oops: 1}}", "/kafka/sasl"),
        ("kafka: {tls: {oops: 1}}", "/kafka/tls"),
        ("database: {oops: 1}", "/database"),
        ("engine: {oops: 1}", "/engine"),
        ("state: {oops: 1}", "/state"),
        ("outbox: {oops: 1}", "/outbox"),
        ("http: {oops: 1}", "/http"),
        ("instance: {oops: 1}", "/instance"),
        ("log: {oops: 1}", "/log"),
        ("topics: {oops: 1}", "/topics"),
        ("migrations: {oops: 1}", "/migrations"),
        ("jobs: {oops: 1}", "/jobs"),
        ("service: {oops: 1}", "/service"),
        ("serviceAccount: {oops: 1}", "/serviceAccount"),
        ("pdb: {oops: 1}", "/pdb"),
        ("resources: {oops: 1}", "/resources"),
        ("probes: {oops: 1}", "/probes"),
        ("probes: {liveness: {oops: 1}}", "/probes/liveness"),
    ]),
    ("image: {tag: latest}", "at '/image/tag': 'not' failed"),
    ("image: {digest: 'sha256:abc'}", "at '/image/digest': 'sha256:abc' does not match pattern"),
    ("pipeline: {missingRow: ignore}", "at '/pipeline/missingRow': value must be one of 'skip', 'dead-letter', 'retry', 'insert'"),
    ("pipeline: {start: newest}", "at '/pipeline/start': value must be one of 'earliest', 'latest'"),
    ("pipeline: {thresholds: {large-change: much}}", "at '/pipeline/thresholds/large-change': got string, want number"),
    ("pipeline: {name: 'a b'}", "at '/pipeline/name': 'a b' does not match pattern"),
    ("kafka: {groupProtocol: share}", "at '/kafka/groupProtocol': value must be one of 'classic', 'consumer'"),
    ("kafka: {transactionTimeoutMs: 900001}", "at '/kafka/transactionTimeoutMs': maximum: got 900,001, want 900,000"),
    ("kafka: {security: {protocol: TLS}}", "at '/kafka/security/protocol': value must be one of"),
    ("kafka: {sasl: {mechanism: GSSAPI}}", "at '/kafka/sasl/mechanism': value must be one of"),
    ("kafka: {properties: {client.rack: [a]}}", "at '/kafka/properties/client.rack': got array, want"),
    ("kafka: {properties: {client-rack: a}}", "'client-rack' does not match pattern"),
    ("database: {url: 'mysql://db/a'}", "at '/database/url': 'mysql://db/a' does not match pattern"),
    ("database: {schema: 'a-b'}", "at '/database/schema': 'a-b' does not match pattern"),
    ("database: {lockTimeoutMs: 0}", "at '/database/lockTimeoutMs': minimum: got 0, want 1"),
    ("state: {enabled: 'yes'}", "at '/state/enabled': got string, want boolean"),
    ("state: {dir: state}", "at '/state/dir': 'state' does not match pattern"),
    ("state: {dir: /etc/tidegate}", "at '/state/dir': 'not' failed"),
    ("state: {size: 20}", "at '/state/size': got number, want string"),
    ("state: {size: 20GB}", "at '/state/size': '20GB' does not match pattern"),
    ("state: {memoryMib: 7}", "at '/state/memoryMib': minimum: got 7, want 8"),
    ("state: {cacheMib: 0}", "at '/state/cacheMib': minimum: got 0, want 1"),
    ("state: {flushMs: 3600001}", "at '/state/flushMs': maximum: got 3.600001×10⁰⁶, want 3.6×10⁰⁶"),
    ("engine: {logAgeMs: 60001}", "at '/engine/logAgeMs': maximum: got 60,001, want 60,000"),
    ("http: {port: 80}", "at '/http/port': minimum: got 80, want 1,024"),
    ("log: {level: loud}", "at '/log/level': value must be one of"),
    ("topics: {mode: strimzi}", "at '/topics/mode': value must be one of 'job', 'none'"),
    ("migrations: {mode: initContainer}", "at '/migrations/mode': value must be one of 'hook', 'none'"),
    ("pdb: {maxUnavailable: 0}", "at '/pdb/maxUnavailable': minimum: got 0, want 1"),
    ("podLabels: {team: 1}", "at '/podLabels/team': got number, want string"),
]


def check(report: Report, renderer) -> None:
    base = read_yaml(CHART / "ci" / "minimal.yaml")
    formats = _formats()
    seen: list[str] = []
    for over, wanted in COMBINATIONS:
        report.check(f"refused: {over}", _refusal_problems(renderer, CHART, base, over, wanted, formats, seen))
    _check_topic_folders(report, renderer, base, formats, seen)
    report.check("refused: every sentence of _checks.tpl has a test", [
        f"never provoked: {text}" for text, pattern in formats.items() if not any(pattern.fullmatch(line) for line in seen)
    ])
    for over in ACCEPTED:
        text = _refusal(renderer, CHART, merged(base, yaml.safe_load(over)))
        report.check(f"accepted: {over}", text.splitlines() if text else [])
    for over, part in SCHEMA:
        text = _refusal(renderer, CHART, merged(base, yaml.safe_load(over)))
        report.check(f"schema refuses: {over}", [] if part in text else [f"expected: {part}", *text.splitlines()])


def _formats() -> dict[str, re.Pattern]:
    """Each sentence of _checks.tpl with a pattern for what it may become."""
    source = (CHART / "templates" / "_checks.tpl").read_text()
    found = {}
    for text in re.findall(r'append \$found \(printf "((?:[^"\\]|\\.)*)"', source):
        sentence = text.replace('\\"', '"')
        found[sentence] = re.compile(".*?".join(map(re.escape, re.split(r"%[a-z]", sentence))))
    if len(found) != source.count("append $found "):
        raise AssertionError("a sentence of _checks.tpl is not written as append $found (printf \"...\" ...)")
    return found


def _refusal(renderer, chart: Path, values: dict) -> str:
    """What Helm says against these values; empty if it installs them."""
    try:
        renderer.render(chart, values)
    except Refused as refused:
        return str(refused)
    return ""


def _refusal_problems(renderer, chart, base, over, wanted, formats, seen) -> list[str]:
    text = _refusal(renderer, chart, merged(base, yaml.safe_load(over)))
    if not text:
        return ["was accepted"]
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if any(pattern.fullmatch(line) for pattern in formats.values())]
    seen += said
    if sorted(said) == sorted(wanted):
        return []
    return [*(f"expected: {line}" for line in wanted), *(f"found:    {line}" for line in said or lines)]


def _check_topic_folders(report: Report, renderer, base: dict, formats, seen) -> None:
    """The partition counts come out of topics/: other folders, other limits."""
    def lead(topic: dict, value: str) -> None:
        topic["metadata"]["annotations"]["tidegate.io/lead"] = value

    def partitions(topic: dict, count: int) -> None:
        topic["spec"]["partitions"] = count

    def overlay(prod: dict) -> None:
        prod["topics"] = {"readings": {"partitions": 4}}

    def own_name(topic: dict) -> None:
        topic["spec"]["topicName"] = "Readings_v2"

    def own_name_overlay(prod: dict) -> None:
        prod["topics"] = {"Readings_v2": {"partitions": 3}}

    def slip(prod: dict) -> None:
        prod["topics"] = {"readigns": {"partitions": 4}}

    three = ['replicaCount is 6, but lead topic "readings" has 3 partitions: 3 pods would idle. Use 3 or less.']
    nobody = ['topics/env/prod.yaml: there is no topic "readigns". Use metadata.name of a file, or its spec.topicName.']
    five = ['replicaCount is 6, but lead topic "readings" has 5 partitions: 1 pods would idle. Use 5 or less.']
    four = ['replicaCount is 6, but lead topic "readings" has 4 partitions: 2 pods would idle. Use 4 or less.']
    count = 'topics/: co-partition group "accounts": expected exactly one topic with tidegate.io/lead: "true", found {}.'
    for name, file, change, wanted in [
        ("the lead topic has 5 partitions", "readings.yaml", lambda topic: partitions(topic, 5), five),
        ("the overlay gives it 4", "env/prod.yaml", overlay, four),
        ("two lead topics", "corrections.yaml", lambda topic: lead(topic, "true"), [count.format(2)]),
        ("an overlay of a topic that no file describes", "env/prod.yaml", slip, nobody),
        ("no lead topic", "readings.yaml", lambda topic: lead(topic, "false"), [count.format(0)]),
    ]:
        with tempfile.TemporaryDirectory() as folder:
            chart = Path(shutil.copytree(CHART, Path(folder) / "tidegate"))
            path = chart / "topics" / file
            content = read_yaml(path)
            change(content)
            path.write_text(yaml.safe_dump(content))
            pods = "replicaCount: 1" if wanted is nobody else "replicaCount: 6"
            report.check(f"refused: {name}", _refusal_problems(renderer, chart, base, pods, wanted, formats, seen))
    # The binary keys an overlay by the topic's own name, and reads files that end with .yml too.
    with tempfile.TemporaryDirectory() as folder:
        chart = Path(shutil.copytree(CHART, Path(folder) / "tidegate"))
        for file, change in [("readings.yaml", own_name), ("env/prod.yaml", own_name_overlay)]:
            content = read_yaml(chart / "topics" / file)
            change(content)
            (chart / "topics" / file).write_text(yaml.safe_dump(content))
        report.check("refused: the overlay names the topic by spec.topicName",
                     _refusal_problems(renderer, chart, base, "replicaCount: 6", three, formats, seen))
    with tempfile.TemporaryDirectory() as folder:
        chart = Path(shutil.copytree(CHART, Path(folder) / "tidegate"))
        (chart / "topics" / "corrections.yaml").rename(chart / "topics" / "corrections.yml")
        ending = ['topics/corrections.yml: call it corrections.yaml. The chart reads files that end with .yaml only.']
        report.check("refused: a topic file that ends with .yml",
                     _refusal_problems(renderer, chart, base, "replicaCount: 1", ending, formats, seen))
    # Another pipeline's topics: two co-partition groups, hence two leads, and a pod can work for each of their partitions.
    with tempfile.TemporaryDirectory() as folder:
        chart = Path(shutil.copytree(CHART, Path(folder) / "tidegate", ignore=shutil.ignore_patterns("topics")))
        shutil.copytree(TOPICS / "usage", chart / "topics")
        stateful = {**base, "state": {"enabled": True, "size": "1Gi"}}
        both = ['replicaCount is 25, but lead topics "events" and "usage-by-user-repartition" have 24 partitions: '
                "1 pods would idle. Use 24 or less."]
        report.check("refused: usage with 25 pods", _refusal_problems(renderer, chart, stateful, "replicaCount: 25", both, formats, seen))
        text = _refusal(renderer, chart, merged(stateful, {"replicaCount": 24}))
        report.check("accepted: usage with 24 pods", text.splitlines() if text else [])
