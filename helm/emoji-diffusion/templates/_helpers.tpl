{{/* The name of the InferenceService; all else begins with it. */}}
{{- define "emoji.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "emoji.selector" -}}
app.kubernetes.io/name: emoji-diffusion
app.kubernetes.io/instance: {{ include "emoji.name" . }}
{{- end -}}

{{/* No label that changes with the chart alone: KServe passes them on to the pods, and would replace those. */}}
{{- define "emoji.labels" -}}
{{ include "emoji.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* (root, name of an image, whole reference or nothing) */}}
{{- define "emoji.image" -}}
{{- $root := index . 0 -}}
{{- index . 2 | default (printf "%s/%s:%s" $root.Values.image.registry (index . 1) ($root.Values.image.tag | default $root.Chart.AppVersion)) -}}
{{- end -}}

{{/* Of the restricted Pod Security Standard. In the container: Knative has no pod securityContext by default. */}}
{{- define "emoji.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* What every server's container has. (port, seconds to start in, timeout of the readiness probe,
     a port for a liveness probe that only connects: where Knative's traffic is gRPC) */}}
{{- define "emoji.server" -}}
startupProbe:
  httpGet: {path: /v2/health/live, port: {{ index . 0 }}}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: {{ div (index . 1) 2 }}
readinessProbe:
  httpGet: {path: /v2/models/emoji/ready, port: {{ index . 0 }}}
  periodSeconds: 2
  timeoutSeconds: {{ index . 2 }}
  failureThreshold: 3
livenessProbe:
  {{- if gt (len .) 3 }}
  tcpSocket: {port: {{ index . 3 }}}
  {{- else }}
  httpGet: {path: /v2/health/live, port: {{ index . 0 }}}
  {{- end }}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 3
securityContext:
  {{- include "emoji.security" . | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - {name: tmp, mountPath: /tmp}
{{- end -}}

{{/* The environment of every server's container. */}}
{{- define "emoji.tracing" -}}
{{- with .Values.tracing }}
{{- if .endpoint }}
env:
  - {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ .endpoint | quote }}}
  {{- if lt (float64 .ratio) 1.0 }}
  - {name: OTEL_TRACES_SAMPLER, value: parentbased_traceidratio}
  - {name: OTEL_TRACES_SAMPLER_ARG, value: {{ .ratio | quote }}}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "emoji.scrape" -}}
prometheus.kserve.io/port: "8080"
prometheus.kserve.io/path: /metrics
prometheus.io/scrape: "true"
prometheus.io/port: "8080"
prometheus.io/path: /metrics
{{- end -}}

{{/* Annotations of what Knative scales. */}}
{{- define "emoji.scaleToZero" -}}
autoscaling.knative.dev/window: {{ .Values.autoscaling.window }}
autoscaling.knative.dev/scale-to-zero-pod-retention-period: {{ .Values.autoscaling.podRetention }}
{{- end -}}

{{/* The canary's share as it is asked for: none where a look alone is, nothing without either. */}}
{{- define "emoji.canaryPercent" -}}
{{- if ne (toString .Values.canary.percent) "" -}}
{{- .Values.canary.percent -}}
{{- else if .Values.canary.look -}}
0
{{- end -}}
{{- end -}}

{{- define "emoji.translatorArgs" -}}
{{- if ne .Values.translation.backend "glossary" }}
- --translator={{ .Values.translation.backend }}
- --translator_dir=/mnt/models/translator
{{- end }}
{{- range .Values.transformer.args }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "emoji.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "emoji.baseUri" -}}
{{- .Values.weights.base.uri | default (printf "pvc://%s-base" (include "emoji.name" .)) -}}
{{- end -}}

{{- define "emoji.lorasUri" -}}
{{- .Values.weights.loras.uri | default (printf "pvc://%s-loras" (include "emoji.name" .)) -}}
{{- end -}}

{{/* Knative's activator and autoscaler talk to the pods as well, whichever gateway there is. */}}
{{- define "emoji.gatewayNamespaces" -}}
{{- if eq .Values.mode "Knative" -}}
{{- concat (list "knative-serving") (.Values.networkPolicy.gatewayNamespaces | default (list "kourier-system")) | uniq | toJson -}}
{{- else -}}
{{- .Values.networkPolicy.gatewayNamespaces | default (list "envoy-gateway-system") | toJson -}}
{{- end -}}
{{- end -}}

{{/* The host of the route in mode Standard. */}}
{{- define "emoji.host" -}}
{{- .Values.ingress.host | default (printf "%s.example.com" (include "emoji.name" .)) -}}
{{- end -}}

{{/* Where the transformer is from inside the cluster. */}}
{{- define "emoji.url" -}}
http://{{ include "emoji.name" . }}-{{ ternary "transformer" "predictor" (eq .Values.mode "Knative") }}.{{ .Release.Namespace }}.svc.cluster.local
{{- end -}}
