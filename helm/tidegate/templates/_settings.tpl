{{/* tidegate.yaml as the binary reads it. The database's URL and the Kafka password come by environment, never through here. */}}
{{- define "tidegate.settings" -}}
{{- $v := .Values -}}
{{- $properties := dict "security.protocol" $v.kafka.security.protocol -}}
{{- if hasPrefix "SASL_" $v.kafka.security.protocol -}}
{{- $_ := set $properties "sasl.mechanism" $v.kafka.sasl.mechanism -}}
{{- end -}}
{{- with $v.kafka.tls -}}
{{- if .existingSecret -}}
{{- if .caKey }}{{ $_ := set $properties "ssl.ca.location" (printf "/etc/tidegate-kafka-tls/%s" .caKey) }}{{ end -}}
{{- if .certKey }}{{ $_ := set $properties "ssl.certificate.location" (printf "/etc/tidegate-kafka-tls/%s" .certKey) }}{{ end -}}
{{- if .privateKeyKey }}{{ $_ := set $properties "ssl.key.location" (printf "/etc/tidegate-kafka-tls/%s" .privateKeyKey) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $properties = merge $properties $v.kafka.properties -}}
pipeline:
  name: {{ $v.pipeline.name | quote }}
  thresholds:
    {{- range $name, $magnitude := $v.pipeline.thresholds }}
    {{ $name | quote }}: {{ toJson $magnitude }}
    {{- else }} {}
    {{- end }}
  missing_row: {{ $v.pipeline.missingRow }}
  start: {{ $v.pipeline.start }}
kafka:
  bootstrap_servers: {{ $v.kafka.bootstrapServers | quote }}
  group_protocol: {{ $v.kafka.groupProtocol }}
  transaction_timeout_ms: {{ int64 $v.kafka.transactionTimeoutMs }}
  properties:
    {{- range $name, $value := $properties }}
    {{ $name | quote }}: {{ include "tidegate.propertyText" $value | quote }}
    {{- end }}
database:
  schema: {{ $v.database.schema | quote }}
  statement_timeout_ms: {{ int64 $v.database.statementTimeoutMs }}
  lock_timeout_ms: {{ int64 $v.database.lockTimeoutMs }}
  idle_in_transaction_timeout_ms: {{ int64 $v.database.idleInTransactionTimeoutMs }}
engine:
  workers: {{ int64 $v.engine.workers }}
  batch_rows: {{ int64 $v.engine.batchRows }}
  batch_age_ms: {{ int64 $v.engine.batchAgeMs }}
  log_age_ms: {{ int64 $v.engine.logAgeMs }}
  unpublished_rows: {{ int64 $v.engine.unpublishedRows }}
  event_time_ahead_ms: {{ int64 $v.engine.eventTimeAheadMs }}
state:
  dir: {{ $v.state.dir | quote }}
  memory_mib: {{ int64 $v.state.memoryMib }}
  cache_mib: {{ int64 $v.state.cacheMib }}
  flush_ms: {{ int64 $v.state.flushMs }}
outbox:
  partition_minutes: {{ int64 $v.outbox.partitionMinutes }}
  retention_hours: {{ int64 $v.outbox.retentionHours }}
http:
  address: {{ printf "0.0.0.0:%d" (int64 $v.http.port) | quote }}
instance:
  slot: {{ if kindIs "invalid" $v.instance.slot }}null{{ else }}{{ int64 $v.instance.slot }}{{ end }}
log:
  format: {{ $v.log.format }}
  level: {{ $v.log.level }}
{{- end -}}
