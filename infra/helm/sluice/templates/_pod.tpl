{{/* What the pods have in common: who they are, what they may, what is mounted. */}}

{{- define "sluice.secrets" -}}
{{- if or .values.existingSecret .values.secretKeys }}yes{{ end -}}
{{- end }}

{{- define "sluice.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "sluice.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Pod spec without containers. Grace period: time before the drain, the drain, and time for clients of Kafka and Redis to close. */}}
{{- define "sluice.podCommon" -}}
serviceAccountName: {{ include "sluice.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "sluice.podSecurity" . | nindent 2 }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .values.drainSeconds }}
terminationGracePeriodSeconds: {{ add $.values.preStopSeconds (ceil .) 15 }}
{{- end }}
{{- with include "sluice.priorityClassName" . | trim }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if and .values.topologySpread (ne (default "" .values.kind) "DaemonSet") }}
topologySpreadConstraints:
  {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "sluice.selector" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end }}

{{- define "sluice.podMetadata" -}}
labels:
  {{- include "sluice.labels" . | nindent 2 }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  kubectl.kubernetes.io/default-container: {{ .component }}
  {{- with .values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Startup: the model is there. Readiness: it can work. Liveness: it gets on; its server has a thread of its own and answers also
where the service hangs. */}}
{{- define "sluice.probes" -}}
startupProbe:
  httpGet: {path: /startz, port: metrics}
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: {{ div .values.probes.startupSeconds 2 }}
readinessProbe:
  httpGet: {path: /readyz, port: {{ eq .component "edge-worker" | ternary "http" "metrics" }}}
  periodSeconds: 3
  timeoutSeconds: 3
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- end }}

{{- define "sluice.preStop" -}}
{{- with .values.preStopSeconds }}
lifecycle:
  preStop: {sleep: {seconds: {{ . }}}}
{{- end }}
{{- end }}

{{- define "sluice.resources" -}}
{{- $resources := deepCopy .values.resources -}}
{{- if dig "gpu" "enabled" false .values -}}
{{- $gpu := dict .values.gpu.resource (int .values.gpu.count) -}}
{{- $resources = merge (dict "limits" $gpu) (dict "requests" $gpu) $resources -}}
{{- end -}}
{{ toYaml $resources }}
{{- end }}

{{- define "sluice.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if include "sluice.secrets" . }}
- {name: secrets, mountPath: /etc/sluice/secrets, readOnly: true}
{{- end }}
{{- if and (ne .component "policy") .root.Values.kafka.caSecret.name }}
- {name: kafka-ca, mountPath: /etc/sluice/kafka, readOnly: true}
{{- end }}
{{- if and (ne .component "topics") .root.Values.redis.caSecret.name }}
- {name: redis-ca, mountPath: /etc/sluice/redis, readOnly: true}
{{- end }}
{{- if .values.kafkaClientSecret }}
- {name: kafka-client, mountPath: /etc/sluice/kafka-client, readOnly: true}
{{- end }}
{{- if .values.cache }}
- {name: cache, mountPath: /var/cache/sluice}
- {name: shm, mountPath: /dev/shm}
{{- if and .root.Values.models.hubTokenSecret.name (include "sluice.hub" .) }}
- {name: hub-token, mountPath: /etc/sluice/hub, readOnly: true}
{{- end }}
{{- if .values.modelClaim }}
- {name: models, mountPath: /models, readOnly: true}
{{- end }}
{{- end }}
{{- if dig "apiKeysSecret" "name" "" .values }}
- {name: api-keys, mountPath: /etc/sluice/api-keys, readOnly: true}
{{- end }}
{{- if .values.calibrationConfigMap }}
- {name: calibration, mountPath: /etc/sluice/calibration, readOnly: true}
{{- end }}
{{- end }}

{{- define "sluice.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
{{- if include "sluice.secrets" . }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- with .values.existingSecret }}
      - secret: {name: {{ . }}}
      {{- end }}
      {{- range .values.secretKeys }}
      - secret: {name: {{ .secret }}, items: [{key: {{ .key }}, path: {{ include "sluice.prefix" $ | lower }}{{ .setting }}}]}
      {{- end }}
{{- end }}
{{- with .root.Values.kafka.caSecret }}
{{- if and (ne $.component "policy") .name }}
- name: kafka-ca
  secret: {secretName: {{ .name }}, defaultMode: 0440, items: [{key: {{ .key }}, path: ca.crt}]}
{{- end }}
{{- end }}
{{- with .root.Values.redis.caSecret }}
{{- if and (ne $.component "topics") .name }}
- name: redis-ca
  secret: {secretName: {{ .name }}, defaultMode: 0440, items: [{key: {{ .key }}, path: ca.crt}]}
{{- end }}
{{- end }}
{{- with .values.kafkaClientSecret }}
- name: kafka-client
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- if .values.cache }}
- name: cache
  {{- if .values.cache.existingClaim }}
  persistentVolumeClaim: {claimName: {{ .values.cache.existingClaim }}}
  {{- else }}
  emptyDir: {sizeLimit: {{ .values.cache.sizeLimit }}}
  {{- end }}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ .values.shmSize }}}
{{- with .root.Values.models.hubTokenSecret }}
{{- if and .name (include "sluice.hub" $) }}
- name: hub-token
  secret: {secretName: {{ .name }}, defaultMode: 0440, items: [{key: {{ .key }}, path: token}]}
{{- end }}
{{- end }}
{{- with .values.modelClaim }}
- name: models
  persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
{{- end }}
{{- end }}
{{- with .values.apiKeysSecret }}
{{- if .name }}
- name: api-keys
  secret: {secretName: {{ .name }}, defaultMode: 0440, items: [{key: {{ .key }}, path: keys}]}
{{- end }}
{{- end }}
{{- with .values.calibrationConfigMap }}
- name: calibration
  configMap: {name: {{ . }}}
{{- end }}
{{- end }}

{{/* Fetches one pinned revision before the service starts, which then needs no hub. */}}
{{- define "sluice.initContainers" -}}
{{- if include "sluice.downloads" . }}
{{- $parts := splitList "@" (include "sluice.reference" .) }}
initContainers:
  - name: model
    image: {{ include "sluice.image" . }}
    imagePullPolicy: {{ .values.image.pullPolicy }}
    command: [hf, download, {{ first $parts | quote }}, --revision, {{ last $parts | quote }}]
    env:
      {{- include "sluice.env.cache" . | trim | nindent 6 }}
    securityContext:
      {{- include "sluice.containerSecurity" . | nindent 6 }}
    resources:
      {{- toYaml .values.resources | nindent 6 }}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      - {name: cache, mountPath: /var/cache/sluice}
      {{- if .root.Values.models.hubTokenSecret.name }}
      - {name: hub-token, mountPath: /etc/sluice/hub, readOnly: true}
      {{- end }}
{{- end }}
{{- end }}

{{/* The pod template of a service. */}}
{{- define "sluice.podTemplate" -}}
metadata:
  {{- include "sluice.podMetadata" . | nindent 2 }}
spec:
  {{- include "sluice.podCommon" . | nindent 2 }}
  {{- with include "sluice.initContainers" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "sluice.image" . }}
      imagePullPolicy: {{ .values.image.pullPolicy }}
      command: [sluice, {{ .component }}]
      env:
        {{- include "sluice.env" . | trim | nindent 8 }}
      ports:
        {{- if eq .component "edge-worker" }}
        - {name: http, containerPort: 8000}
        {{- end }}
        - {name: metrics, containerPort: 9102}
      {{- include "sluice.probes" . | nindent 6 }}
      {{- with include "sluice.preStop" . | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      securityContext:
        {{- include "sluice.containerSecurity" . | nindent 8 }}
      resources:
        {{- include "sluice.resources" . | nindent 8 }}
      volumeMounts:
        {{- include "sluice.mounts" . | nindent 8 }}
  volumes:
    {{- include "sluice.volumes" . | nindent 4 }}
{{- end }}
