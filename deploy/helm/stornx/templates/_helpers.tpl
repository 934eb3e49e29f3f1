{{- define "stornx.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Every object is called after this. Short: names are added to it. */}}
{{- define "stornx.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "stornx.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "stornx.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "stornx.namespace" -}}
{{- default .Release.Namespace .Values.namespace }}
{{- end }}

{{/* Where the memory, the lease and the webhook lie, and what they are called. */}}
{{- define "stornx.ownNamespace" -}}
{{- default (include "stornx.namespace" .) .Values.config.kubernetes.ownNamespace }}
{{- end }}

{{- define "stornx.ownName" -}}
{{- default (include "stornx.fullname" .) .Values.config.kubernetes.ownName }}
{{- end }}

{{- define "stornx.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "stornx.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "stornx.selectorLabels" -}}
app.kubernetes.io/name: {{ include "stornx.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "stornx.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "stornx.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "stornx.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{/* A value as the text of a setting. Numbers come as floats, which would be written as 1e+06. */}}
{{- define "stornx.text" -}}
{{- if kindIs "float64" . }}
{{- if eq (floor .) . }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- else if kindIs "slice" . }}{{ join "," . }}
{{- else }}{{ . }}{{ end }}
{{- end }}

{{/* The managed namespaces, one on a line. */}}
{{- define "stornx.namespaces" -}}
{{- range splitList "," (include "stornx.text" .Values.config.namespaces) }}
{{- with trim . }}
{{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* "true" or nothing: values files may write switches as text. */}}
{{- define "stornx.on" -}}
{{- if eq (toString .) "true" }}true{{ end }}
{{- end }}

{{- define "stornx.writes" -}}
{{- if or .Values.rbac.all (not (include "stornx.on" .Values.config.dryRun)) }}true{{ end }}
{{- end }}

{{- define "stornx.steers" -}}
{{- if and (include "stornx.on" .Values.config.webhook.enabled) (not (include "stornx.on" .Values.config.dryRun)) }}true{{ end }}
{{- end }}

{{- define "stornx.certificateSecret" -}}
{{- if eq .Values.webhook.certificates "secret" }}
{{- required "webhook.existingSecret is needed with webhook.certificates=secret" .Values.webhook.existingSecret }}
{{- else if eq .Values.webhook.certificates "cert-manager" }}
{{- printf "%s-webhook-tls" (include "stornx.fullname" .) }}
{{- end }}
{{- end }}

{{/* The settings file. The table files/settings.yaml says which value is which setting. */}}
{{- define "stornx.settings" -}}
{{- $root := . }}
{{- range $key, $name := .Files.Get "files/settings.yaml" | fromYaml }}
{{- $value := $root.Values.config }}
{{- range splitList "." $key }}
{{- $value = index $value . }}
{{- end }}
{{- $text := include "stornx.text" $value }}
{{- if eq $name "ENV" }}
{{- $text = "production" }}
{{- else if and (eq $name "LOG_FORMAT") (eq $text "auto") (eq $root.Values.config.env "development") }}
{{- $text = "text" }}
{{- else if eq $name "OWN_NAME" }}
{{- $text = include "stornx.ownName" $root }}
{{- else if eq $name "OWN_NAMESPACE" }}
{{- $text = include "stornx.ownNamespace" $root }}
{{- else if and (eq $name "HISTORY_FILE") (not $text) $root.Values.historyVolume.enabled }}
{{- $text = "/var/lib/stornx/history.json" }}
{{- else if and (eq $name "WEBHOOK_CERT_FILE") (not $text) (include "stornx.certificateSecret" $root) }}
{{- $text = "/etc/stornx/webhook/tls.crt" }}
{{- else if and (eq $name "WEBHOOK_KEY_FILE") (not $text) (include "stornx.certificateSecret" $root) }}
{{- $text = "/etc/stornx/webhook/tls.key" }}
{{- end }}
{{ $name }}: {{ $text | quote }}
{{- end }}
{{- end }}

{{- define "stornx.volumeMounts" -}}
- name: settings
  mountPath: /etc/stornx/settings
  readOnly: true
{{- if include "stornx.certificateSecret" . }}
- name: webhook
  mountPath: /etc/stornx/webhook
  readOnly: true
{{- end }}
{{- if .Values.prometheusSecret }}
- name: prometheus
  mountPath: /etc/stornx/prometheus
  readOnly: true
{{- end }}
{{- if .Values.historyVolume.enabled }}
- name: history
  mountPath: /var/lib/stornx
{{- end }}
{{- with .Values.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "stornx.volumes" -}}
- name: settings
  configMap:
    name: {{ include "stornx.fullname" . }}-settings
{{- with include "stornx.certificateSecret" . }}
- name: webhook
  secret:
    secretName: {{ . }}
{{- end }}
{{- with .Values.prometheusSecret }}
- name: prometheus
  secret:
    secretName: {{ . }}
{{- end }}
{{- if .Values.historyVolume.enabled }}
- name: history
  persistentVolumeClaim:
    claimName: {{ default (printf "%s-history" (include "stornx.fullname" .)) .Values.historyVolume.existingClaim }}
{{- end }}
{{- with .Values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "stornx.env" -}}
- name: STORNX_CONFIG
  value: /etc/stornx/settings/stornx.yaml
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A probe as the API has it. */}}
{{- define "stornx.probe" -}}
{{- toYaml (omit . "enabled") }}
{{- end }}
