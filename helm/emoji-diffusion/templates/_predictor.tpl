{{/* What the predictors of the stable version and of a canary have alike. (root, look) */}}
{{- define "emoji.predictor" -}}
{{- $root := index . 0 }}
{{- $values := $root.Values }}
{{- $knative := eq $values.mode "Knative" -}}
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
{{- $nodes := dict }}
{{- $tolerations := list }}
{{- if $values.gpu.enabled }}
{{- $nodes = dict "nvidia.com/gpu.present" "true" }}
{{- $tolerations = list (dict "key" $values.gpu.resource "operator" "Exists" "effect" "NoSchedule") }}
{{- end }}
{{- with $values.predictor.nodeSelector | default $nodes }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
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
    - {name: DEFAULT_LOOK, value: {{ index . 1 | quote }}}
    {{- with $values.predictor.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  resources:
    {{- $gpus := ternary (dict $values.gpu.resource (toString $values.gpu.count)) dict $values.gpu.enabled }}
    requests:
      {{- merge dict $values.predictor.resources.requests $gpus | toYaml | nindent 6 }}
    limits:
      {{- merge dict $values.predictor.resources.limits $gpus | toYaml | nindent 6 }}
storageUris:
  - {uri: {{ include "emoji.baseUri" $root | quote }}, mountPath: /mnt/models/base}
  - {uri: {{ include "emoji.lorasUri" $root | quote }}, mountPath: /mnt/models/loras}
  {{- if and $values.translation.storageUri (not $knative) }}
  - {uri: {{ $values.translation.storageUri | quote }}, mountPath: /mnt/models/translator}
  {{- end }}
{{- end -}}
