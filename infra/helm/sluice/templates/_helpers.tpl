{{- define "sluice.fullname" -}}
{{- $name := .Values.fullnameOverride | default (contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name)) -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Arguments of the templates below: a dict of `root` (the chart's context), `component` (edge-worker, verifier, policy, topics, test)
and, where it has values, `values`. */}}

{{- define "sluice.name" -}}
{{ include "sluice.fullname" .root }}-{{ .component }}
{{- end }}

{{- define "sluice.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "sluice.labels" -}}
{{ include "sluice.selector" . }}
app.kubernetes.io/part-of: sluice
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "sluice.metadata" -}}
name: {{ include "sluice.name" . }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "sluice.labels" . | nindent 2 }}
{{- end }}

{{/* Pods that may ask the edge workers carry this label. */}}
{{- define "sluice.clientLabel" -}}
{{ include "sluice.fullname" . }}-client
{{- end }}

{{- define "sluice.image" -}}
{{- $image := .values.image -}}
{{- $registry := $image.registry | default .root.Values.global.imageRegistry -}}
{{- $variant := dig "gpu" "enabled" false .values | and (eq .component "verifier") | ternary "-cuda" "" -}}
{{- $tag := $image.tag | default (printf "%s%s" .root.Chart.AppVersion $variant) -}}
{{- with $registry }}{{ . }}/{{ end }}{{ $image.repository }}{{ if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $tag }}{{ end }}
{{- end }}

{{- define "sluice.prefix" -}}
{{ get (dict "edge-worker" "SLUICE_EDGE_" "verifier" "SLUICE_VERIFIER_" "policy" "SLUICE_POLICY_" "topics" "SLUICE_TOPICS_") .component }}
{{- end }}

{{/* Names of the variables that set a model. Downloads happen where `download` says so, else in the service, if at all. */}}
{{- define "sluice.reference" -}}
{{- if eq .component "verifier" }}{{ .root.Values.models.target.reference }}{{ else }}{{ .root.Values.models.draft.reference }}{{ end -}}
{{- end }}

{{- define "sluice.downloads" -}}
{{- if eq .component "verifier" }}{{ if .root.Values.models.target.download }}yes{{ end }}{{ else if eq .component "edge-worker" }}{{ if .root.Values.models.draft.download }}yes{{ end }}{{ end -}}
{{- end }}

{{/* Whether a reference or a preset is fetched from the hub by the pod. */}}
{{- define "sluice.hub" -}}
{{- $reference := include "sluice.reference" . -}}
{{- if $reference }}{{ if not (or (hasPrefix "/" $reference) (hasPrefix "synthetic" $reference) (eq $reference "smollm2-135m") (eq $reference "smollm2-135m-draft")) }}yes{{ end }}{{ else if ne .root.Values.models.preset "smollm2-135m" }}yes{{ end -}}
{{- end }}

{{/* A value of `config` as an environment variable has it: no exponent for large whole numbers. */}}
{{- define "sluice.setting" -}}
{{- if and (kindIs "float64" .) (eq (float64 (int64 .)) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end }}

{{/* Ports of `host:port,host:port` as a list of numbers. */}}
{{- define "sluice.kafkaPorts" -}}
{{- if .Values.networkPolicy.kafkaPorts }}{{ .Values.networkPolicy.kafkaPorts | toJson }}
{{- else -}}
{{- $ports := list -}}
{{- range splitList "," .Values.kafka.bootstrap }}{{ $ports = append $ports (regexFind "[0-9]+$" (trim .) | default "9092" | int) }}{{ end -}}
{{ $ports | uniq | toJson }}
{{- end -}}
{{- end }}

{{- define "sluice.redisPorts" -}}
{{- if .Values.networkPolicy.redisPorts }}{{ .Values.networkPolicy.redisPorts | toJson }}
{{- else -}}
{{ list ((urlParse .Values.redis.url).host | regexFind ":[0-9]+$" | trimPrefix ":" | default "6379" | int) | toJson }}
{{- end -}}
{{- end }}

{{- define "sluice.prometheusPorts" -}}
{{- if .Values.networkPolicy.prometheusPorts }}{{ .Values.networkPolicy.prometheusPorts | toJson }}
{{- else -}}
{{- $url := urlParse .Values.prometheus.url -}}
{{ list ($url.host | regexFind ":[0-9]+$" | trimPrefix ":" | default (ternary "443" "80" (eq $url.scheme "https")) | int) | toJson }}
{{- end -}}
{{- end }}

{{- define "sluice.priorityClassName" -}}
{{- if and .root.Values.priorityClasses.create (has .component (list "edge-worker" "verifier" "policy")) }}{{ .root.Release.Namespace }}-{{ include "sluice.name" . }}{{ else }}{{ .values.priorityClassName | default "" }}{{ end -}}
{{- end }}
