{{/* Names, labels and the parts that the workload and the jobs share. */}}

{{- define "tidegate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Cut at 40 characters, so that every suffix fits into the 63 of a label. */}}
{{- define "tidegate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "tidegate.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tidegate.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tidegate.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tidegate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tidegate.labels" -}}
{{ include "tidegate.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "tidegate.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tidegate.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Jobs run before the account that the chart creates exists. */}}
{{- define "tidegate.jobServiceAccountName" -}}
{{- if .Values.serviceAccount.create -}}default{{- else -}}{{ include "tidegate.serviceAccountName" . }}{{- end -}}
{{- end -}}

{{- define "tidegate.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/*
The topics of topics/*.yaml with the overlay laid over them, as a JSON list in the order of file names. The overlay names
a topic as Kafka does, like `tidegate topics`.
*/}}
{{- define "tidegate.topics" -}}
{{- $overlay := dict -}}
{{- if .Values.topics.env -}}
{{- $overlay = .Files.Get (printf "topics/env/%s.yaml" .Values.topics.env) | fromYaml -}}
{{- end -}}
{{- $topics := list -}}
{{- range $path, $_ := .Files.Glob "topics/*.yaml" -}}
{{- $topic := $.Files.Get $path | fromYaml -}}
{{- $own := dig "topics" (default $topic.metadata.name $topic.spec.topicName) dict $overlay -}}
{{- $spec := mergeOverwrite $topic.spec (deepCopy (default dict $overlay.spec)) (deepCopy $own) -}}
{{- $topics = append $topics (set $topic "spec" $spec) -}}
{{- end -}}
{{- $topics | toJson -}}
{{- end -}}

{{/* The lead topics, one of each co-partition group. */}}
{{- define "tidegate.leadTopics" -}}
{{- $leads := list -}}
{{- range include "tidegate.topics" . | fromJsonArray -}}
{{- if eq "true" (toString (index .metadata.annotations "tidegate.io/lead")) -}}
{{- $leads = append $leads . -}}
{{- end -}}
{{- end -}}
{{- $leads | toJson -}}
{{- end -}}

{{/* Partitions of all lead topics: as many tasks there are, and no more pods can work. */}}
{{- define "tidegate.tasks" -}}
{{- $tasks := 0 -}}
{{- range include "tidegate.leadTopics" . | fromJsonArray }}{{ $tasks = add $tasks (int64 .spec.partitions) }}{{ end -}}
{{- $tasks -}}
{{- end -}}

{{- define "tidegate.workloadKind" -}}
{{- ternary "StatefulSet" "Deployment" .Values.state.enabled -}}
{{- end -}}

{{- define "tidegate.gracePeriod" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- ternary 300 60 .Values.state.enabled -}}
{{- else -}}
{{- int64 .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}

{{/* A quantity of bytes in whole MiB, for example of 1.5Gi; -1 for a spelling that is not known here. */}}
{{- define "tidegate.mebibytes" -}}
{{- $text := kindIs "float64" . | ternary (int64 . | toString) (toString .) -}}
{{- $number := regexFind "^[0-9.]+" $text -}}
{{- $unit := trimPrefix $number $text -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- if hasKey $units $unit -}}
{{- divf (mulf $number (get $units $unit)) 1048576 | floor | int64 -}}
{{- else -}}
-1
{{- end -}}
{{- end -}}

{{/* Not empty where there is a database. Only a pipeline with keyed state may do without. */}}
{{- define "tidegate.hasDatabase" -}}
{{- if or .Values.database.url .Values.database.existingSecret (not .Values.state.enabled) }}yes{{ end -}}
{{- end -}}

{{/* A librdkafka property as text. A large number would otherwise be written as 1.048576e+06. */}}
{{- define "tidegate.propertyText" -}}
{{- if kindIs "float64" . -}}{{- toJson . -}}{{- else -}}{{- toString . -}}{{- end -}}
{{- end -}}

{{/* Name of the Secret with the database's URL, as the pods see it. */}}
{{- define "tidegate.databaseSecret" -}}
{{- default (printf "%s-database" (include "tidegate.fullname" .)) .Values.database.existingSecret -}}
{{- end -}}

{{/* The same as the jobs see it: a copy that exists before the release does. */}}
{{- define "tidegate.jobDatabaseSecret" -}}
{{- default (printf "%s-hooks" (include "tidegate.fullname" .)) .Values.database.existingSecret -}}
{{- end -}}

{{- define "tidegate.databaseSecretKey" -}}
{{- if .Values.database.existingSecret -}}{{ .Values.database.existingSecretKey }}{{- else -}}url{{- end -}}
{{- end -}}

{{/*
Environment of every container. The jobs get the whole of it, because settings are validated as a whole.
Takes (dict "root" $ "databaseSecret" name "isWorkload" true or false).
*/}}
{{- define "tidegate.env" -}}
{{- $kafka := .root.Values.kafka -}}
- name: TIDEGATE_CONFIG
  value: /etc/tidegate/tidegate.yaml
{{- if include "tidegate.hasDatabase" .root }}
- name: TIDEGATE_DATABASE__URL
  valueFrom:
    secretKeyRef:
      name: {{ .databaseSecret }}
      key: {{ include "tidegate.databaseSecretKey" .root }}
{{- end }}
{{- if and .isWorkload (not (include "tidegate.hasDatabase" .root)) (kindIs "invalid" .root.Values.instance.slot) }}
# The number of the pod in the StatefulSet: a pod that comes back ends the transactions that its predecessor left open.
- name: TIDEGATE_INSTANCE__SLOT
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['apps.kubernetes.io/pod-index']
{{- end }}
{{- if $kafka.sasl.existingSecret }}
- name: TIDEGATE_KAFKA__PROPERTIES__SASL_USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ $kafka.sasl.existingSecret }}
      key: {{ $kafka.sasl.usernameKey }}
- name: TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ $kafka.sasl.existingSecret }}
      key: {{ $kafka.sasl.passwordKey }}
{{- end }}
{{- with .root.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What the workload's pods and the jobs' pods have in common. */}}
{{- define "tidegate.podCommon" -}}
# A Service called tidegate or kafka would inject TIDEGATE_PORT or KAFKA_PORT, which look like settings.
enableServiceLinks: false
automountServiceAccountToken: false
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What their containers have in common. Takes what tidegate.env takes. */}}
{{- define "tidegate.containerCommon" -}}
image: {{ include "tidegate.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
# The default folder of `tidegate topics` is topics/ under the working directory.
workingDir: /etc/tidegate
env:
  {{- include "tidegate.env" . | nindent 2 }}
{{- with .root.Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .root.Values.securityContext | nindent 2 }}
volumeMounts:
  - name: settings
    mountPath: /etc/tidegate
    readOnly: true
  {{- if .root.Values.kafka.tls.existingSecret }}
  - name: kafka-tls
    mountPath: /etc/tidegate-kafka-tls
    readOnly: true
  {{- end }}
  {{- with .root.Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Volumes besides the settings. */}}
{{- define "tidegate.volumes" -}}
{{- if .Values.kafka.tls.existingSecret -}}
- name: kafka-tls
  secret:
    secretName: {{ .Values.kafka.tls.existingSecret }}
    # Readable by the group of podSecurityContext.fsGroup only.
    defaultMode: 0440
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end -}}
{{- end -}}
