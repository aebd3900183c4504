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
