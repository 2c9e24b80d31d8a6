{{/* What is wrong with the values by themselves: a list of sentences in YAML, without their full stops. */}}
{{- define "bindery.checks.values" -}}
{{- $problems := concat (include "bindery.checks.formats" . | fromYamlArray) (include "bindery.checks.names" . | fromYamlArray) -}}
{{- if not .Values.images.prefix -}}
{{- $problems = append $problems "images.prefix is not set: build and push Bindery's images (make images PUSH=registry.example.org/bindery/), and set it to the same address" -}}
{{- end -}}
{{- $public := include "bindery.publicHost" . -}}
{{- if eq $public (include "bindery.serversHost" .) -}}
{{- $problems = append $problems (printf "publicUrl and serversUrl have the same host, %s: servers of users would get the cookies of Bindery's own pages. Give servers another name" $public) -}}
{{- end -}}
{{- if and (or .Values.ingress.enabled .Values.httpRoute.enabled) (not (and .Values.publicUrl .Values.serversUrl)) -}}
{{- $problems = append $problems "an Ingress or HTTPRoute needs both host names: set publicUrl and serversUrl" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- $problems = append $problems "httpRoute.parentRefs is empty: name the Gateway, as [{name: public, namespace: gateways}]" -}}
{{- end -}}
{{- if not (or .Values.registry.bundled .Values.registry.imagePrefix) -}}
{{- $problems = append $problems "there is no registry for built images: set registry.imagePrefix to one (registry.example.org/binder/r2d-), or registry.bundled to true on a cluster of one node" -}}
{{- end -}}
{{- if and .Values.registry.bundled (eq .Values.engine.kind "address") -}}
{{- $problems = append $problems "registry.bundled is true, but an engine elsewhere (engine.kind address) does not reach a port of the node: set registry.imagePrefix to a registry that both reach, and registry.bundled to false" -}}
{{- end -}}
{{- with and .Values.secrets.existing .Values.secrets.values -}}
{{- $problems = append $problems (printf "secrets.values has %s, but secrets.existing names a Secret of yours, which the chart does not change: put them there, or leave one of both out" (keys . | sortAlpha | join ", ")) -}}
{{- end -}}
{{- range $part := list "gateway" "resolver" "builder" "launcher" "worker" -}}
{{- $scaling := (index $.Values $part).autoscaling -}}
{{- if and $scaling.maxReplicas (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- $problems = append $problems (printf "%s.autoscaling.minReplicas, %d, is more than %s.autoscaling.maxReplicas, %d" $part (int $scaling.minReplicas) $part (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- if ne (empty .Values.registry.username) (empty .Values.registry.password) -}}
{{- $problems = append $problems "set both registry.username and registry.password, or neither" -}}
{{- end -}}
{{- if not (or .Values.redis.bundled .Values.redis.url) -}}
{{- $problems = append $problems "redis.bundled is false: set redis.url to the address of your Redis" -}}
{{- end -}}
{{- if and .Values.redis.bundled .Values.redis.url -}}
{{- $problems = append $problems "redis.url is set, but redis.bundled is true, too: set redis.bundled to false to use yours, or leave the address out" -}}
{{- end -}}
{{- if and .Values.hub.bundled .Values.hub.apiUrl -}}
{{- $problems = append $problems "hub.apiUrl is set, but hub.bundled is true, too: set hub.bundled to false to use yours, or leave the address out" -}}
{{- end -}}
{{- if and .Values.registry.bundled .Values.registry.url -}}
{{- $problems = append $problems "registry.url is set, but registry.bundled is true, too: set registry.bundled to false to use yours, or leave the address out" -}}
{{- end -}}
{{- if not .Values.hub.bundled -}}
{{- if not .Values.hub.apiUrl -}}
{{- $problems = append $problems "hub.bundled is false: set hub.apiUrl to the API of your hub" -}}
{{- end -}}
{{- if not .Values.serversUrl -}}
{{- $problems = append $problems "hub.bundled is false: set serversUrl to the address of your hub's proxy, at which users reach their servers" -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.engine.kind "address") (not .Values.engine.address) -}}
{{- $problems = append $problems "engine.kind is address: set engine.address to that of an engine, as tcp://engine.example.org:2376" -}}
{{- end -}}
{{- $problems | toYaml -}}
{{- end -}}

{{/* Which values don't look as files/formats.yaml says. */}}
{{- define "bindery.checks.formats" -}}
{{- $problems := list -}}
{{- range $format := .Files.Get "files/formats.yaml" | fromYamlArray -}}
{{- range $name := $format.of -}}
{{- $value := $.Values -}}
{{- range splitList "." $name }}{{ $value = index $value . }}{{ end -}}
{{- range ternary $value (list $value) (kindIs "slice" $value) -}}
{{- $text := ternary (printf "%.0f" .) (toString .) (kindIs "float64" .) -}}
{{- if not (regexMatch $format.pattern $text) -}}
{{- $problems = append $problems (printf "%s is %q: it must be like %s" $name $text $format.like) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $problems | toYaml -}}
{{- end -}}

{{/* Whether Kubernetes takes the names that follow from those of the release and of its namespace. */}}
{{- define "bindery.checks.names" -}}
{{- $problems := list -}}
{{- if not (or .Values.fullnameOverride (regexMatch "^[a-z][-a-z0-9]*$" (include "bindery.fullname" .))) -}}
{{- $problems = append $problems (printf "the release's name, %s, begins the names of Services, which have lower-case letters, digits and dashes alone, and a letter first: choose another, or set fullnameOverride" .Release.Name) -}}
{{- end -}}
{{- range $of := ternary (list "builds" "servers") (list "builds") .Values.hub.bundled -}}
{{- $name := include (printf "bindery.%s.namespace" $of) $ -}}
{{- if and (gt (len $name) 63) (not (index $.Values $of).namespace.name) -}}
{{- $problems = append $problems (printf "%s has more than the 63 characters of a namespace's name: set %s.namespace.name" $name $of) -}}
{{- end -}}
{{- end -}}
{{- $problems | toYaml -}}
{{- end -}}
