{{/* The metadata of the InferenceService with the predictor, the stable one or a canary. (root, its name) */}}
{{- define "emoji.predictorMetadata" -}}
{{- $root := index . 0 }}
{{- $knative := eq $root.Values.mode "Knative" -}}
name: {{ index . 1 }}
annotations:
  serving.kserve.io/deploymentMode: {{ $root.Values.mode }}
  {{- if not $knative }}
  serving.kserve.io/autoscalerClass: {{ $root.Values.autoscaling.class }}
  {{- end }}
labels:
  {{- include "emoji.labels" $root | nindent 2 }}
  {{- if not $knative }}
  networking.kserve.io/visibility: cluster-local  # no routes by KServe: its own would take the place of ours
  {{- end }}
{{- end -}}

{{/* Its predictor. (root, its name, look) */}}
{{- define "emoji.predictor" -}}
{{- $root := index . 0 }}
{{- $values := $root.Values }}
{{- $knative := eq $values.mode "Knative" -}}
labels:
  app.kubernetes.io/component: predictor
  {{- if $knative }}
  networking.knative.dev/visibility: cluster-local  # the transformer is the way in
  {{- end }}
{{- if $knative }}
annotations:
  {{- include "emoji.scaleToZero" $root | nindent 2 }}
  {{- if gt (int $values.predictor.startupSeconds) 300 }}
  {{- /* Knative's own ten minutes: for five of loading, and five for the pod, its node and a download */}}
  serving.knative.dev/progress-deadline: {{ add $values.predictor.startupSeconds 300 }}s
  {{- end }}
scaleMetric: concurrency
scaleTarget: {{ $values.predictor.concurrency }}
{{- else if eq $values.autoscaling.class "keda" }}
autoScaling:
  metrics:
    - type: External
      external:
        metric:
          backend: prometheus
          serverAddress: {{ $values.autoscaling.prometheus }}
          query: sum(emoji_queue_rows{namespace="{{ $root.Release.Namespace }}", inferenceservice="{{ index . 1 }}"})
        target: {type: Value, value: {{ $values.autoscaling.queueRows | quote }}}
{{- else if eq $values.autoscaling.class "hpa" }}
scaleMetric: cpu
scaleTarget: {{ $values.autoscaling.cpuPercent }}
{{- end }}
minReplicas: {{ ternary $values.predictor.minReplicas (max 1 $values.predictor.minReplicas) $knative }}
maxReplicas: {{ $values.predictor.maxReplicas }}
timeout: {{ $values.timeoutSeconds }}
automountServiceAccountToken: false
{{- with $values.predictor.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- if not $knative }}
terminationGracePeriodSeconds: {{ $values.timeoutSeconds }}
deploymentStrategy:
  type: RollingUpdate
  rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
{{- end }}
{{- with $values.predictor.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $tolerations := list }}
{{- if $values.gpu.enabled }}
{{- $tolerations = list (dict "key" $values.gpu.resource "operator" "Exists" "effect" "NoSchedule") }}
{{- end }}
{{- with $values.predictor.tolerations | default $tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
model:
  modelFormat: {name: emoji-diffusion}
  runtime: {{ include "emoji.name" $root }}-diffusion
  protocolVersion: v2
  {{- if or $values.gpu.enabled $values.predictor.args }}
  args:
    {{- if $values.gpu.enabled }}
    - --device=cuda
    - --dtype={{ $values.gpu.dtype }}
    - --max_batch_size={{ $values.gpu.maxBatchSize }}
    - --max_queue_rows={{ $values.gpu.maxQueueRows }}
    {{- end }}
    {{- range $values.predictor.args }}
    - {{ . | quote }}
    {{- end }}
  {{- end }}
  env:
    - {name: DEFAULT_LOOK, value: {{ index . 2 | quote }}}
    {{- with $values.predictor.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  resources:
    {{- $gpus := ternary (dict $values.gpu.resource "1") dict $values.gpu.enabled }}
    requests:
      {{- merge dict $values.predictor.resources.requests $gpus | toYaml | nindent 6 }}
    limits:
      {{- merge dict $values.predictor.resources.limits $gpus | toYaml | nindent 6 }}
{{- $sources := list (list (include "emoji.baseUri" $root) "base") (list (include "emoji.lorasUri" $root) "loras") }}
{{- if and $values.translation.storageUri (not $knative) }}
{{- $sources = append $sources (list $values.translation.storageUri "translator") }}
{{- end }}
{{- $claims := list }}
{{- $downloads := list }}
{{- range $sources }}
{{- if hasPrefix "pvc://" (first .) }}{{ $claims = append $claims . }}{{ else }}{{ $downloads = append $downloads . }}{{ end }}
{{- end }}
{{- if and $claims (gt (len $downloads) 1) }}
{{- fail "KServe downloads to one volume at /mnt/models, read-only afterwards, and no claim can be mounted below it: take claims for all of weights.base, weights.loras and translation, or for none, or download one of them only" }}
{{- end }}
storageUris:
  {{- /* KServe 0.20 takes the settings of its downloading container by the first one, and a claim has none */}}
  {{- range concat $downloads $claims }}
  - {uri: {{ first . | quote }}, mountPath: /mnt/models/{{ last . }}}
  {{- end }}
{{- end -}}
