{{/* Names, labels and images. */}}

{{/* The beginning of all names: the release's name, with the chart's if that is not in it. */}}
{{- define "bindery.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The name of a part's objects. Arguments: root, part. */}}
{{- define "bindery.name" -}}
{{ include "bindery.fullname" .root }}-{{ .part }}
{{- end -}}

{{- define "bindery.builds.namespace" -}}
{{ .Values.builds.namespace.name | default (printf "%s-builds" .Release.Namespace) }}
{{- end -}}

{{- define "bindery.servers.namespace" -}}
{{ .Values.servers.namespace.name | default (printf "%s-servers" .Release.Namespace) }}
{{- end -}}

{{/* The namespaces of the release, each named once, separated by spaces. */}}
{{- define "bindery.namespaces" -}}
{{- $all := list .Release.Namespace (include "bindery.builds.namespace" .) -}}
{{- if .Values.hub.bundled }}{{ $all = append $all (include "bindery.servers.namespace" .) }}{{ end -}}
{{ uniq $all | join " " }}
{{- end -}}

{{/* A prefix for names of objects that are in no namespace. */}}
{{- define "bindery.clusterName" -}}
{{- $fullname := include "bindery.fullname" . -}}
{{- if eq $fullname .Release.Namespace -}}{{ $fullname }}{{- else -}}{{ printf "%s-%s" .Release.Namespace $fullname }}{{- end -}}
{{- end -}}

{{/* What selects the pods of a part. Arguments: root, part. */}}
{{- define "bindery.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{/* The labels of a part's objects. Arguments: root, part. */}}
{{- define "bindery.labels" -}}
{{ include "bindery.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: bindery
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The image of one of our programs. Arguments: root, name. */}}
{{- define "bindery.image" -}}
{{- $tag := .root.Values.images.tag | default .root.Chart.AppVersion -}}
{{ .root.Values.images.prefix }}{{ .name }}:{{ kindIs "float64" $tag | ternary (int64 $tag) $tag }}
{{- end -}}

{{/* A part's values: its own over those of every part, as YAML. Arguments: root, part (the key in values.yaml). */}}
{{- define "bindery.values" -}}
{{- mergeOverwrite (deepCopy .root.Values.everyPart) (deepCopy (index .root.Values .part)) | toYaml -}}
{{- end -}}
