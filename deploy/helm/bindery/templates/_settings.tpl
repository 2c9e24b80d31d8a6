{{/* Settings that are no secrets: a file for each service. What the chart derives comes first, then `extraConfig` of
     every part, then the part's own, so that whoever installs has the last word. */}}

{{- define "bindery.publicUrl" -}}
{{ .Values.publicUrl | default "http://127.0.0.1:8585" | trimSuffix "/" }}
{{- end -}}

{{- define "bindery.serversUrl" -}}
{{ printf "%s/" (.Values.serversUrl | default "http://localhost:8585" | trimSuffix "/") }}
{{- end -}}

{{/* The host in each of both, without its port. */}}
{{- define "bindery.publicHost" -}}
{{ include "bindery.publicUrl" . | regexFind "//(\\[[^]]*\\]|[^:/?#]*)" | trimPrefix "//" | trimAll "[]" }}
{{- end -}}

{{- define "bindery.serversHost" -}}
{{ include "bindery.serversUrl" . | regexFind "//(\\[[^]]*\\]|[^:/?#]*)" | trimPrefix "//" | trimAll "[]" }}
{{- end -}}

{{- define "bindery.hub.apiUrl" -}}
{{- if .Values.hub.bundled -}}
http://{{ include "bindery.name" (dict "root" . "part" "hub") }}:8081/hub/api/
{{- else -}}
{{ printf "%s/" (.Values.hub.apiUrl | trimSuffix "/") }}
{{- end -}}
{{- end -}}

{{/* The registry's host in the beginning of images' names, as Docker reads it; nothing for Docker Hub. */}}
{{- define "bindery.registry.host" -}}
{{- $host := include "bindery.imagePrefix" . | splitList "/" | first -}}
{{- if or (contains "." $host) (contains ":" $host) (eq $host "localhost") -}}{{ $host }}{{- end -}}
{{- end -}}

{{- define "bindery.imagePrefix" -}}
{{- if .Values.registry.bundled -}}
127.0.0.1:{{ .Values.registry.hostPort }}/{{ .Values.registry.imagePrefix | default "bindery/" }}
{{- else -}}
{{ .Values.registry.imagePrefix }}
{{- end -}}
{{- end -}}

{{/* The Secret with Docker's login for the registry; nothing without one. */}}
{{- define "bindery.registry.secret" -}}
{{- if .Values.registry.existingSecret -}}
{{ .Values.registry.existingSecret }}
{{- else if .Values.registry.username -}}
{{ include "bindery.name" (dict "root" . "part" "registry-login") }}
{{- end -}}
{{- end -}}

{{/* Whether Bindery's own images are in the registry whose login the values have. */}}
{{- define "bindery.registry.hasOwnImages" -}}
{{- $isLogin := and .Values.registry.username (not .Values.registry.existingSecret) -}}
{{- $host := .Values.images.prefix | splitList "/" | first -}}
{{- if not (or (contains "." $host) (contains ":" $host) (eq $host "localhost")) }}{{ $host = "" }}{{ end -}}
{{- if and $isLogin (eq $host (include "bindery.registry.host" .)) -}}yes{{- end -}}
{{- end -}}

{{/* The namespaces that the registry's login is for, as a YAML list. */}}
{{- define "bindery.registry.namespaces" -}}
{{- $all := list .Release.Namespace -}}
{{- if and .Values.hub.bundled .Values.servers.registryLogin }}{{ $all = append $all (include "bindery.servers.namespace" .) }}{{ end -}}
{{- if include "bindery.registry.hasOwnImages" . }}{{ $all = append $all (include "bindery.builds.namespace" .) }}{{ end -}}
{{ uniq $all | toYaml }}
{{- end -}}

{{/* The names of the Secrets that a namespace's pods pull images with, as a JSON list. Arguments: root, part values. */}}
{{- define "bindery.pullSecrets" -}}
{{- concat (.root.Values.imagePullSecrets | default list) (.own | default list) | uniq | toJson -}}
{{- end -}}

{{/* The same for Bindery's own images, which may be in the registry of built ones. */}}
{{- define "bindery.ownImages.pullSecrets" -}}
{{- $login := ternary (include "bindery.registry.secret" .root) "" (include "bindery.registry.hasOwnImages" .root | empty | not) -}}
{{- include "bindery.pullSecrets" (dict "root" .root "own" (append (.own | default list) $login | compact)) -}}
{{- end -}}

{{- define "bindery.settings.gateway" -}}
executor: kubernetes
public_url: {{ include "bindery.publicUrl" . }}
hub_url: {{ include "bindery.serversUrl" . }}
resolver_url: http://{{ include "bindery.name" (dict "root" . "part" "resolver") }}:8080
builder_url: http://{{ include "bindery.name" (dict "root" . "part" "builder") }}:8080
launcher_url: http://{{ include "bindery.name" (dict "root" . "part" "launcher") }}:8080
allowed_origins: {{ .Values.allowedOrigins | join "," | quote }}
trusted_proxies: {{ .Values.trustedProxies | join "," | quote }}
drain_seconds: {{ .Values.gateway.drainSeconds }}
{{- end -}}

{{- define "bindery.settings.resolver" -}}
policy_dir: /data/policy
allowed_networks: {{ .Values.allowedNetworks | join "," | quote }}
{{- end -}}

{{- define "bindery.settings.builder" -}}
executor: kubernetes
allowed_networks: {{ .Values.allowedNetworks | join "," | quote }}
image_prefix: {{ include "bindery.imagePrefix" . }}
{{- if .Values.registry.bundled }}
registry_url: http://{{ include "bindery.name" (dict "root" . "part" "registry") }}:5000
{{- else }}
registry_url: {{ .Values.registry.url | quote }}
{{- end }}
{{- if include "bindery.registry.secret" . }}
docker_config: /etc/bindery/registry
{{- end }}
builder_image: {{ .Values.builds.image | default (include "bindery.image" (dict "root" . "name" "repo2docker")) }}
build_slots: {{ .Values.worker.slots }}
build_capacity: {{ .Values.builds.capacity }}
build_memory_limit: {{ .Values.builds.memoryLimit | quote }}
kubernetes_namespace: {{ include "bindery.builds.namespace" . }}
kubernetes_owner: {{ include "bindery.fullname" . }}
kubernetes_service_account: {{ include "bindery.fullname" . }}-build
kubernetes_image_pull_secrets: {{ include "bindery.ownImages.pullSecrets" (dict "root" . "own" .Values.builds.imagePullSecrets) }}
kubernetes_image_pull_policy: {{ .Values.images.pullPolicy }}
kubernetes_docker_host: {{ include "bindery.engine.address" . }}
kubernetes_docker_tls_secret: {{ .Values.engine.tlsSecret | quote }}
kubernetes_resources: {{ .Values.builds.resources | toJson }}
kubernetes_node_selector: {{ .Values.builds.nodeSelector | toJson }}
{{- with .Values.builds.tolerations }}
kubernetes_tolerations: {{ toJson . }}
{{- end }}
{{- with .Values.builds.affinity }}
kubernetes_affinity: {{ toJson . }}
{{- end }}
kubernetes_sticky_builds: {{ and (eq .Values.engine.kind "dind") .Values.builds.sticky }}
kubernetes_engine_selector: app.kubernetes.io/instance={{ .Release.Name }},app.kubernetes.io/component=engine
kubernetes_priority_class: {{ include "bindery.priorityClass" (dict "root" . "of" "builds") | quote }}
kubernetes_labels:
  app.kubernetes.io/instance: {{ .Release.Name }}
  app.kubernetes.io/component: build
{{- end -}}

{{- define "bindery.settings.launcher" -}}
hub_api_url: {{ include "bindery.hub.apiUrl" . }}
hub_url: {{ include "bindery.serversUrl" . }}
{{- if .Values.hub.bundled }}
hub_proxy_url: http://{{ include "bindery.name" (dict "root" . "part" "proxy") }}-inside:8000/
hub_checks_proxy: true
{{- end }}
seats_total: {{ .Values.servers.total }}
seats_per_repo: {{ .Values.servers.perRepository }}
idle_timeout_seconds: {{ .Values.servers.idleTimeoutSeconds }}
max_age_seconds: {{ .Values.servers.maxAgeSeconds }}
server_start_timeout_seconds: {{ .Values.servers.startTimeoutSeconds }}
{{- end -}}

{{/* A service's file, whole. Arguments: root, part (key in values.yaml), from (whose derived settings). */}}
{{- define "bindery.settings" -}}
{{- $derived := include (printf "bindery.settings.%s" .from) .root | fromYaml -}}
{{- $values := include "bindery.values" . | fromYaml -}}
{{- mergeOverwrite $derived ($values.extraConfig | default dict) | toYaml -}}
{{- end -}}

{{/* One of a service's settings, as it counts in the end. Arguments: as for bindery.settings, and name. */}}
{{- define "bindery.setting" -}}
{{- index (include "bindery.settings" . | fromYaml) .name -}}
{{- end -}}

{{/* Where builds reach the engine. */}}
{{- define "bindery.engine.address" -}}
{{- if eq .Values.engine.kind "dind" -}}
unix://{{ include "bindery.engine.socketFolder" . }}/docker.sock
{{- else if eq .Values.engine.kind "socket" -}}
unix://{{ .Values.engine.socket }}
{{- else -}}
{{ .Values.engine.address }}
{{- end -}}
{{- end -}}

{{/* The priority class of services, servers or builds; nothing without one. Arguments: root, of. */}}
{{- define "bindery.priorityClass" -}}
{{- if .root.Values.priorityClasses.create -}}
{{ include "bindery.clusterName" .root }}-{{ .of }}
{{- else -}}
{{ index .root.Values.priorityClasses .of }}
{{- end -}}
{{- end -}}
