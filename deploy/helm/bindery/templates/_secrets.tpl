{{/* The Secret with all that nobody else may know; each container gets its own keys of it alone. */}}

{{- define "bindery.secret.name" -}}
{{ .Values.secrets.existing | default (include "bindery.fullname" .) }}
{{- end -}}

{{/* The keys that must be there, separated by spaces. */}}
{{- define "bindery.secret.keys" -}}
{{- $keys := list "installation-id" "installation-secret" "service-token" "metrics-token" -}}
{{- if .Values.hub.bundled -}}
{{- $keys = concat $keys (list "hub-api-token" "hub-crypt-key" "proxy-api-password") -}}
{{- else if not .Values.hub.tokenSecret.name -}}
{{- $keys = append $keys "hub-api-token" -}}
{{- end -}}
{{- if or .Values.redis.bundled (contains "{user}" .Values.redis.url) -}}
{{- range list "gateway" "resolver" "builder" "worker" "launcher" -}}
{{- $keys = append $keys (printf "redis-%s-password" .) -}}
{{- end -}}
{{- else if contains "{password}" .Values.redis.url -}}
{{- $keys = append $keys "redis-password" -}}
{{- end -}}
{{- if .Values.redis.bundled -}}
{{- $keys = concat $keys (list "redis-health-password" "redis-admin-password") -}}
{{- end -}}
{{ join " " $keys }}
{{- end -}}

{{/* Whether this rendering may ask the cluster: everybody may read this ConfigMap of a namespace that is there, and
     whoever lets Helm create the namespace may read any. */}}
{{- define "bindery.canLookUp" -}}
{{- if lookup "v1" "ConfigMap" .Release.Namespace "kube-root-ca.crt" -}}yes
{{- else if lookup "v1" "Namespace" "" "default" -}}yes
{{- end -}}
{{- end -}}

{{/* The Secret's data, as YAML: what there is, what the values say, and new random texts for the rest. It is made once in
     a rendering, and then kept, so that all templates see the same. */}}
{{- define "bindery.secret.data" -}}
{{- if not (hasKey .Values "_secretData") -}}
{{- $name := include "bindery.fullname" . -}}
{{- $there := lookup "v1" "Secret" .Release.Namespace $name | default dict -}}
{{- if not (or $there (include "bindery.canLookUp" .)) -}}
{{- fail (printf "\n\nThis rendering can't look into the cluster (helm template, --dry-run=client, Argo CD), so it can't keep secrets that were generated before. Make a Secret with the keys %s, and name it: --set secrets.existing=NAME. docs/helm.md has the command.\n" (include "bindery.secret.keys" . | replace " " ", ")) -}}
{{- end -}}
{{- $data := $there.data | default dict -}}
{{- range $key, $value := .Values.secrets.values -}}
{{- if $value -}}{{- $_ := set $data $key ($value | toString | b64enc) -}}{{- end -}}
{{- end -}}
{{- range splitList " " (include "bindery.secret.keys" .) -}}
{{- if not (index $data .) -}}
{{- $length := ternary 12 64 (eq . "installation-id") -}}
{{- $_ := set $data . (randAlphaNum 64 | sha256sum | trunc $length | b64enc) -}}
{{- end -}}
{{- end -}}
{{- $_ := set .Values "_secretData" $data -}}
{{- end -}}
{{- .Values._secretData | toYaml -}}
{{- end -}}

{{/* A hash of what a part gets of the Secret, so that its pods are replaced when that changes; nothing where it can't be
     seen. Arguments: root, keys. */}}
{{- define "bindery.secret.checksum" -}}
{{- $data := dict -}}
{{- if .root.Values.secrets.existing -}}
{{- $data = (lookup "v1" "Secret" .root.Release.Namespace .root.Values.secrets.existing | default dict).data | default dict -}}
{{- else -}}
{{- $data = include "bindery.secret.data" .root | fromYaml -}}
{{- end -}}
{{- $seen := dict -}}
{{- range .keys -}}
{{- if hasKey $data . -}}{{- $_ := set $seen . (index $data .) -}}{{- end -}}
{{- end -}}
{{- $seen | toJson | sha256sum -}}
{{- end -}}

{{/* Environment variables from keys of the Secret. Arguments: root, variables (a map of variable to key), optional. */}}
{{- define "bindery.secret.env" -}}
{{- $root := .root -}}
{{- $optional := .optional | default false -}}
{{- range $variable, $key := .variables }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef: {name: {{ include "bindery.secret.name" $root }}, key: {{ $key }}{{ if $optional }}, optional: true{{ end }}}
{{- end -}}
{{- end -}}

{{/* The operator's tokens for forges: the resolver asks their APIs with them, and workers fetch private repositories. */}}
{{- define "bindery.forges.env" -}}
{{- include "bindery.secret.env" (dict "root" . "optional" true "variables" (dict "BINDERY_GITHUB_ACCESS_TOKEN" "github-access-token" "BINDERY_GITLABS" "gitlabs" "BINDERY_GITEAS" "giteas" "BINDERY_BITBUCKET_TOKEN" "bitbucket-token" "BINDERY_GIT_CREDENTIALS" "git-credentials")) }}
{{- end -}}

{{/* The address of Redis for a service, and its password before it. Arguments: root, user (a service). */}}
{{- define "bindery.redis.env" -}}
{{- $url := .root.Values.redis.url -}}
{{- if .root.Values.redis.bundled -}}
{{- $url = printf "redis://{user}:{password}@%s:6379/0" (include "bindery.name" (dict "root" .root "part" "redis")) -}}
{{- end -}}
{{- if contains "{password}" $url }}
{{- $key := ternary (printf "redis-%s-password" .user) "redis-password" (contains "{user}" $url) }}
{{- include "bindery.secret.env" (dict "root" .root "variables" (dict "REDIS_PASSWORD" $key)) }}
{{- end }}
- name: BINDERY_REDIS_URL
  value: {{ $url | replace "{user}" (printf "bindery-%s" .user) | replace "{password}" "$(REDIS_PASSWORD)" | quote }}
{{- if contains "sentinel:" $url }}
{{- include "bindery.secret.env" (dict "root" .root "optional" true "variables" (dict "BINDERY_REDIS_SENTINEL_PASSWORD" "redis-sentinel-password")) }}
{{- end }}
{{- end -}}
