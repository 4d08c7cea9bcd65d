{{/* Environment of a service. Secrets are not in it: they lie in files, see `sluice.secretsVolume`. */}}

{{- define "sluice.env" -}}
{{- $prefix := include "sluice.prefix" . -}}
{{- $root := .root -}}
{{- $values := .values -}}
{{- if ne .component "topics" }}
- {name: {{ $prefix }}METRICS_HOST, value: "0.0.0.0"}
- {name: {{ $prefix }}METRICS_PORT, value: "9102"}
- {name: {{ $prefix }}REDIS_URL, value: {{ $root.Values.redis.url | quote }}}
- {name: {{ $prefix }}REDIS_CLUSTER, value: {{ $root.Values.redis.cluster | quote }}}
{{- with $values.redisUsername }}
- {name: {{ $prefix }}REDIS_USERNAME, value: {{ . | quote }}}
{{- end }}
{{- if $root.Values.redis.caSecret.name }}
- {name: {{ $prefix }}REDIS_CA_FILE, value: /etc/sluice/redis/ca.crt}
{{- end }}
{{- end }}
{{- if ne .component "policy" }}
- {name: {{ $prefix }}KAFKA_BOOTSTRAP, value: {{ $root.Values.kafka.bootstrap | quote }}}
- {name: {{ $prefix }}KAFKA_SECURITY, value: {{ $root.Values.kafka.security }}}
- {name: {{ $prefix }}KAFKA_MECHANISM, value: {{ $root.Values.kafka.mechanism }}}
{{- with $values.kafkaUsername }}
- {name: {{ $prefix }}KAFKA_USERNAME, value: {{ . | quote }}}
{{- end }}
{{- if $root.Values.kafka.caSecret.name }}
- {name: {{ $prefix }}KAFKA_CA_FILE, value: /etc/sluice/kafka/ca.crt}
{{- end }}
{{- if $values.kafkaClientSecret }}
- {name: {{ $prefix }}KAFKA_CERT_FILE, value: /etc/sluice/kafka-client/tls.crt}
- {name: {{ $prefix }}KAFKA_KEY_FILE, value: /etc/sluice/kafka-client/tls.key}
{{- end }}
{{- end }}
{{- if eq (include "sluice.secrets" .) "yes" }}
- {name: SLUICE_SECRETS_DIR, value: /etc/sluice/secrets}
{{- end }}
{{- include (printf "sluice.env.%s" .component) . }}
{{- range $name, $value := $values.config }}
{{- if not (kindIs "invalid" $value) }}
- {name: {{ $prefix }}{{ upper $name }}, value: {{ include "sluice.setting" $value | quote }}}
{{- end }}
{{- end }}
{{- if or (eq .component "edge-worker") (eq .component "verifier") }}
{{- include "sluice.env.torch" . }}
{{- end }}
{{- end }}

{{/* One arena, and what is freed goes back at once: else resident memory grows for hours while live objects do not. */}}
{{- define "sluice.env.torch" }}
- {name: MALLOC_ARENA_MAX, value: "1"}
- {name: MALLOC_TRIM_THRESHOLD_, value: "65536"}
{{- include "sluice.env.cache" . }}
{{- if include "sluice.downloads" . }}
- {name: HF_HUB_OFFLINE, value: "1"}
{{- end }}
{{- end }}

{{- define "sluice.env.cache" }}
- {name: HOME, value: /var/cache/sluice}
- {name: XDG_CACHE_HOME, value: /var/cache/sluice}
- {name: HF_HOME, value: /var/cache/sluice/huggingface}
- {name: TORCHINDUCTOR_CACHE_DIR, value: /var/cache/sluice/inductor}
- {name: TRITON_CACHE_DIR, value: /var/cache/sluice/triton}
{{- with .root.Values.models.hubTokenSecret }}
{{- if and .name (include "sluice.hub" $) }}
- {name: HF_TOKEN_PATH, value: /etc/sluice/hub/token}
{{- end }}
{{- end }}
{{- end }}

{{- define "sluice.env.edge-worker" }}
- {name: SLUICE_EDGE_HOST, value: "0.0.0.0"}
- {name: SLUICE_EDGE_PORT, value: "8000"}
- name: SLUICE_EDGE_WORKER
  valueFrom: {fieldRef: {fieldPath: {{ eq .values.kind "DaemonSet" | ternary "spec.nodeName" "metadata.name" }}}}
- {name: SLUICE_EDGE_DRAIN_SECONDS, value: {{ .values.drainSeconds | quote }}}
- {name: SLUICE_EDGE_PRESET, value: {{ .root.Values.models.preset | quote }}}
{{- with .root.Values.models.draft.reference }}
- {name: SLUICE_EDGE_DRAFT, value: {{ . | quote }}}
{{- end }}
{{- with .root.Values.models.target.reference }}
- {name: SLUICE_EDGE_TARGET, value: {{ . | quote }}}
{{- end }}
{{- if .values.gpu.enabled }}
- {name: SLUICE_EDGE_DEVICE, value: "cuda:0"}
{{- end }}
{{- if .values.apiKeysSecret.name }}
- {name: SLUICE_EDGE_API_KEYS_FILE, value: /etc/sluice/api-keys/keys}
{{- end }}
{{- if .values.calibrationConfigMap }}
- {name: SLUICE_EDGE_CALIBRATION, value: /etc/sluice/calibration/calibration.json}
{{- end }}
{{- end }}

{{- define "sluice.env.verifier" }}
- {name: SLUICE_VERIFIER_MODEL, value: {{ .root.Values.models.target.reference | default .root.Values.models.preset | quote }}}
- {name: SLUICE_VERIFIER_GROUP_ID, value: {{ .root.Values.kafka.consumerGroup | quote }}}
- {name: SLUICE_VERIFIER_DRAIN_SECONDS, value: {{ .values.drainSeconds | quote }}}
{{- if .values.gpu.enabled }}
- {name: SLUICE_VERIFIER_DEVICE, value: "cuda:0"}
{{- end }}
{{- end }}

{{/* The policy models the edges' gate, so `tau_u`, `wait_tokens` and `risk` are theirs unless it is told otherwise; and it asks for the
targets of this release's own monitors, so that no edge passes for a verifier and no other release counts. */}}
{{- define "sluice.env.policy" }}
- {name: SLUICE_POLICY_PROMETHEUS_URL, value: {{ .root.Values.prometheus.url | quote }}}
- {name: SLUICE_POLICY_SCRAPE_SECONDS, value: {{ .root.Values.monitoring.scrapeSeconds | quote }}}
{{- $edge := .root.Values.edgeWorker.config }}
{{- $own := .values.config }}
{{- if .root.Values.monitoring.podMonitors }}
{{- range $name, $component := dict "edges" "edge-worker" "verifiers" "verifier" }}
{{- if not (hasKey $own $name) }}
- {name: SLUICE_POLICY_{{ upper $name }}, value: {{ printf "job=\"sluice-%s\",namespace=\"%s\"" $component $.root.Release.Namespace | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- range $name := list "tau_u" "wait_tokens" "risk" }}
{{- if and (hasKey $edge $name) (not (hasKey $own $name)) }}
- {name: SLUICE_POLICY_{{ upper $name }}, value: {{ include "sluice.setting" (get $edge $name) | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{- define "sluice.env.topics" }}
- {name: SLUICE_TOPICS_PARTITIONS, value: {{ .root.Values.kafka.partitions | quote }}}
{{- end }}
