{{/* What the builder's API and its workers have in common. */}}

{{/* Arguments: root, user (their user in Redis). */}}
{{- define "bindery.builder.env" -}}
{{ include "bindery.secret.env" (dict "root" .root "variables" (dict "BINDERY_INSTALLATION_ID" "installation-id" "BINDERY_SERVICE_TOKEN" "service-token" "BINDERY_METRICS_TOKEN" "metrics-token")) }}
{{- include "bindery.secret.env" (dict "root" .root "optional" true "variables" (dict "BINDERY_OPERATOR_TOKEN" "operator-token")) }}
{{- include "bindery.redis.env" . }}
{{- end -}}

{{- define "bindery.builder.volumes" -}}
{{- with include "bindery.registry.secret" . }}
- name: registry-login
  secret:
    secretName: {{ . }}
    items:
      - {key: .dockerconfigjson, path: config.json}
{{- end }}
{{- end -}}

{{- define "bindery.builder.mounts" -}}
{{- if include "bindery.registry.secret" . }}
- {name: registry-login, mountPath: /etc/bindery/registry, readOnly: true}
{{- end }}
{{- end -}}
