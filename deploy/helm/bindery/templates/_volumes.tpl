{{/* The claim of a StatefulSet's one pod. Kubernetes keeps it when the release is removed. Arguments: name,
     persistence. */}}
{{- define "bindery.claim" -}}
- metadata:
    name: {{ .name }}
  spec:
    accessModes: [ReadWriteOnce]
    {{- if eq .persistence.storageClass "-" }}
    storageClassName: ""
    {{- else if .persistence.storageClass }}
    storageClassName: {{ .persistence.storageClass }}
    {{- end }}
    {{- with .persistence.volumeName }}
    volumeName: {{ . }}
    {{- end }}
    resources:
      requests: {storage: {{ .persistence.size }}}
{{- end -}}
