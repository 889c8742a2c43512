{{/*
Combinations of values that would install and then go wrong, each with the sentence that names the way out. All that are
found are printed at once. What a single value may be is the job of values.schema.json. helm/check.py reads the printf
formats of this file and fails when one of them is not provoked by a negative test.
*/}}
{{- define "tidegate.checks" -}}
{{- $found := list -}}
{{- $v := .Values -}}

{{- /* Topics and replicas. */ -}}
{{- if and $v.topics.env (not (.Files.Get (printf "topics/env/%s.yaml" $v.topics.env))) -}}
{{- $found = append $found (printf "topics.env is %q, but topics/env/%s.yaml does not exist." $v.topics.env $v.topics.env) -}}
{{- end -}}
{{- $known := list -}}
{{- range include "tidegate.topics" . | fromJsonArray }}{{ $known = append $known (default .metadata.name .spec.topicName) }}{{ end -}}
{{- $overlay := .Files.Get (printf "topics/env/%s.yaml" $v.topics.env) | fromYaml -}}
{{- range $name, $_ := default dict $overlay.topics -}}
{{- if not (has $name $known) -}}
{{- $found = append $found (printf "topics/env/%s.yaml: there is no topic %q. Use metadata.name of a file, or its spec.topicName." $v.topics.env $name) -}}
{{- end -}}
{{- end -}}
{{- range $path, $_ := .Files.Glob "topics/*.yml" -}}
{{- $found = append $found (printf "%s: call it %s.yaml. The chart reads files that end with .yaml only." $path (base $path | trimSuffix ".yml")) -}}
{{- end -}}
{{- $leads := include "tidegate.leadTopics" . | fromJsonArray -}}
{{- $names := list -}}
{{- $groups := dict -}}
{{- range include "tidegate.topics" . | fromJsonArray -}}
{{- with index .metadata.annotations "tidegate.io/copartition" }}{{ $_ := set $groups . 0 }}{{ end -}}
{{- end -}}
{{- range $leads -}}
{{- $names = append $names (quote .metadata.name) -}}
{{- $group := index .metadata.annotations "tidegate.io/copartition" -}}
{{- $_ := set $groups $group (add1 (get $groups $group)) -}}
{{- end -}}
{{- range $group, $count := $groups -}}
{{- if ne (int64 $count) 1 -}}
{{- $found = append $found (printf "topics/: co-partition group %q: expected exactly one topic with tidegate.io/lead: \"true\", found %d." $group (int64 $count)) -}}
{{- end -}}
{{- end -}}
{{- $tasks := include "tidegate.tasks" . | int64 -}}
{{- $replicas := int64 $v.replicaCount -}}
{{- $who := ternary (printf "lead topic %s has" (join "" $names)) (printf "lead topics %s have" (join " and " $names)) (eq (len $names) 1) -}}
{{- if and $tasks (gt $replicas $tasks) -}}
{{- $found = append $found (printf "replicaCount is %d, but %s %d partitions: %d pods would idle. Use %d or less." $replicas $who $tasks (sub $replicas $tasks) $tasks) -}}
{{- end -}}
{{- if and (not (kindIs "invalid" $v.instance.slot)) (gt (int64 $v.replicaCount) 1) -}}
{{- $found = append $found (printf "instance.slot is %d, but replicaCount is %d: all pods would share one transactional id and fence each other. Set instance.slot to null." (int64 $v.instance.slot) (int64 $v.replicaCount)) -}}
{{- end -}}

{{- /* Keyed state. */ -}}
{{- with $v.state -}}
{{- if and .enabled (not .size) (not .ephemeral) -}}
{{- $found = append $found (printf "state.size is empty: set a size, or state.ephemeral=true to accept a full restore on every restart.") -}}
{{- end -}}
{{- if and .ephemeral .storageClass -}}
{{- $found = append $found (printf "state.storageClass is %q, but state.ephemeral=true takes no volume of a class. Remove one of them." .storageClass) -}}
{{- end -}}
{{- if and (not .enabled) (or .size .storageClass .ephemeral) -}}
{{- $found = append $found (printf "state.size, storageClass and ephemeral have no effect while state.enabled is false. Set it to true, or remove them.") -}}
{{- end -}}
{{- $needed := add .memoryMib (mul $v.engine.workers .cacheMib) -}}
{{- $limit := include "tidegate.mebibytes" (dig "limits" "memory" "" $v.resources) | int64 -}}
{{- if and .enabled (gt $limit 0) (gt (mul 2 $needed) $limit) -}}
{{- $found = append $found (printf "state.memoryMib and engine.workers times state.cacheMib come to %d MiB, more than half of resources.limits.memory (%d MiB): the container would be killed. Raise the limit to %dMi." $needed $limit (mul 2 $needed)) -}}
{{- end -}}
{{- end -}}

{{- /* Database. A pipeline that has keyed state alone needs none. */ -}}
{{- $sources := list -}}
{{- if $v.database.url }}{{ $sources = append $sources "url" }}{{ end -}}
{{- if $v.database.existingSecret }}{{ $sources = append $sources "existingSecret" }}{{ end -}}
{{- if or (gt (len $sources) 1) (and (not $sources) (not $v.state.enabled)) -}}
{{- $found = append $found (printf "database: set exactly one of url, existingSecret (found: %s)." (default "none" (join ", " $sources))) -}}
{{- end -}}

{{- /* Kafka: where and how. */ -}}
{{- $protocol := $v.kafka.security.protocol -}}
{{- $sasl := hasPrefix "SASL_" $protocol -}}
{{- $ssl := hasSuffix "SSL" $protocol -}}
{{- if not $v.kafka.bootstrapServers -}}
{{- $found = append $found (printf "kafka.bootstrapServers is empty: set the brokers, for example %q." "kafka-bootstrap:9092") -}}
{{- end -}}
{{- if not $protocol -}}
{{- $found = append $found (printf "kafka.security.protocol is empty: write PLAINTEXT, SSL, SASL_PLAINTEXT or %s." "SASL_SSL") -}}
{{- else -}}
{{- if and $sasl (not $v.kafka.sasl.existingSecret) -}}
{{- $found = append $found (printf "kafka.security.protocol=%s needs kafka.sasl.existingSecret, a Secret with user and password." $protocol) -}}
{{- end -}}
{{- if and $v.kafka.sasl.existingSecret (not $sasl) -}}
{{- $found = append $found (printf "kafka.sasl.existingSecret has no effect under kafka.security.protocol=%s. Use SASL_SSL or SASL_PLAINTEXT, or remove it." $protocol) -}}
{{- end -}}
{{- if and $v.kafka.tls.existingSecret (not $ssl) -}}
{{- $found = append $found (printf "kafka.tls.existingSecret has no effect under kafka.security.protocol=%s. Use SSL or SASL_SSL, or remove it." $protocol) -}}
{{- end -}}
{{- end -}}
{{- if ne (empty $v.kafka.tls.certKey) (empty $v.kafka.tls.privateKeyKey) -}}
{{- $found = append $found (printf "kafka.tls: a client certificate needs both certKey and privateKeyKey (found: %s)." (default $v.kafka.tls.privateKeyKey $v.kafka.tls.certKey)) -}}
{{- end -}}
{{- if and $v.kafka.tls.certKey (not $v.kafka.tls.existingSecret) -}}
{{- $found = append $found (printf "kafka.tls.certKey is %q, but kafka.tls.existingSecret is empty: name the Secret that holds it." $v.kafka.tls.certKey) -}}
{{- end -}}

{{- /* Kafka: properties that are not the user's. */ -}}
{{- $fixed := dict
  "auto.offset.reset" "error (pipeline.start decides where a new group begins)"
  "enable.auto.commit" "false"
  "enable.auto.offset.store" "false"
  "enable.idempotence" "true"
  "group.id" "the pipeline's name"
  "isolation.level" "read_committed"
  "partition.assignment.strategy" "cooperative-sticky"
  "partitioner" "murmur2_random"
  "transactional.id" "pipeline, slot and worker"
-}}
{{- $elsewhere := dict
  "bootstrap.servers" "kafka.bootstrapServers"
  "group.protocol" "kafka.groupProtocol"
  "metadata.broker.list" "kafka.bootstrapServers"
  "sasl.mechanism" "kafka.sasl.mechanism"
  "sasl.mechanisms" "kafka.sasl.mechanism"
  "security.protocol" "kafka.security.protocol"
  "transaction.timeout.ms" "kafka.transactionTimeoutMs"
-}}
{{- /* By the words of the name, as the binary masks them: a list of names would miss the next one. Where it only says where a
secret lies, it is none. */ -}}
{{- $secretWords := "password|secret|token|credential|jaas|private|^ssl\\.key\\.pem$|oauthbearer\\.config|^sasl\\.username$" -}}
{{- $places := "\\.(location|file|url|id)$" -}}
{{- $brokerOwned := list "session.timeout.ms" "heartbeat.interval.ms" "group.protocol.type" -}}
{{- range $name, $_ := $v.kafka.properties -}}
{{- if hasKey $fixed $name -}}
{{- $found = append $found (printf "kafka.properties: %q is fixed to %s by Tidegate. Remove it." $name (get $fixed $name)) -}}
{{- else if hasKey $elsewhere $name -}}
{{- $found = append $found (printf "kafka.properties: %q has a key of its own: %s." $name (get $elsewhere $name)) -}}
{{- else if and (regexMatch $secretWords (lower $name)) (not (regexMatch $places (lower $name))) -}}
{{- $way := ternary "Use kafka.sasl.existingSecret." "Reference a Secret from extraEnv." (has $name (list "sasl.password" "sasl.username")) -}}
{{- $found = append $found (printf "kafka.properties: %q would be readable in the ConfigMap. %s" $name $way) -}}
{{- else if eq $name "group.instance.id" -}}
{{- $found = append $found (printf "kafka.properties: %q is Tidegate's: a static member never leaves, so a pod that goes holds its partitions for the session timeout. Remove it." $name) -}}
{{- else if and (eq $v.kafka.groupProtocol "consumer") (has $name $brokerOwned) -}}
{{- $found = append $found (printf "kafka.properties: under groupProtocol=consumer the broker sets %q. Remove it." $name) -}}
{{- end -}}
{{- end -}}

{{- /* Shutdown. */ -}}
{{- $grace := include "tidegate.gracePeriod" . | int64 -}}
{{- if lt (mul $grace 1000) (add (int64 $v.kafka.transactionTimeoutMs) 10000) -}}
{{- $found = append $found (printf "terminationGracePeriodSeconds (%d) must exceed the transaction timeout (%v s) by 10 s or more." $grace (divf $v.kafka.transactionTimeoutMs 1000)) -}}
{{- end -}}

{{- if $found -}}
{{- fail (printf "\n%s" (join "\n" $found)) -}}
{{- end -}}
{{- end -}}
